"""The native module: whether it serves here, why not, and how tensors cross to it."""

import functools
import importlib
import os
from types import ModuleType
from typing import Any

import torch
from numpy.typing import NDArray

Array = tuple[int, tuple[int, ...], str]
REMEDY = "install with a C++ compiler and without FEDLPS_NATIVE=off"


@functools.cache
def load() -> tuple[ModuleType | None, str]:
    """The native module and "", or None and why it does not serve. Reads FEDLPS_NATIVE and FEDLPS_ISA once."""
    wanted = os.environ.get("FEDLPS_NATIVE", "auto")
    if wanted not in ("auto", "on", "off"):
        raise ValueError(f"FEDLPS_NATIVE: got {wanted!r}, expected auto, on or off")
    if wanted == "off":
        return None, "FEDLPS_NATIVE=off"
    try:
        module = importlib.import_module("fedlps_kernels._native")
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        why = f"the native module {'is not built' if missing else f'does not load ({error})'}: {REMEDY}"
        if wanted == "on":
            raise ValueError(f"FEDLPS_NATIVE: got 'on', but {why}") from error
        return None, why
    isa = os.environ.get("FEDLPS_ISA")
    if isa:
        if isa not in module.available_isas():
            allowed = ", ".join(module.available_isas())
            raise ValueError(f"FEDLPS_ISA: got {isa!r}, expected one of those this machine runs: {allowed}")
        module.use_isa(isa)
    return module, ""


def why_not() -> str:
    """Why the native module does not serve here; empty if it does."""
    return load()[1]


def module() -> ModuleType | None:
    """The native module, if it serves here."""
    return load()[0]


def isa() -> str:
    """The instruction set in use; empty if the native module does not serve."""
    found = module()
    return "" if found is None else str(found.isa())


def serving(tensor: torch.Tensor) -> ModuleType | None:
    """The native module, if it serves tensors of this device."""
    return module() if tensor.device.type == "cpu" else None


def array(tensor: torch.Tensor) -> Array:
    """A contiguous tensor as it crosses: (address, shape, dtype). The caller keeps it alive."""
    return tensor.data_ptr(), tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")


def numpy_array(values: NDArray[Any]) -> Array:
    """The same of numpy's, which may be read-only."""
    return values.ctypes.data, values.shape, values.dtype.name


def arrays(*tensors: torch.Tensor) -> tuple[Array, ...]:
    """Each of them, as it crosses."""
    return tuple(map(array, tensors))


def threads() -> int:
    """Threads a call may use: torch's own setting."""
    return torch.get_num_threads()
