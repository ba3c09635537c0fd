"""The native module: whether it serves here, why not, and how tensors cross to it."""

import functools
import importlib
import os
from types import ModuleType
from typing import Any

import torch
from numpy.typing import NDArray

Array = tuple[int, tuple[int, ...], str]
OLDEST_GPU = (8, 0)  # compute capability
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


@functools.cache
def why_no_cuda() -> str:
    """Why the module's CUDA part does not serve this machine's GPUs; empty if it does. One line."""
    found = module()
    if found is None:
        return why_not()
    return _why_no_cuda(found.cuda())


def _why_no_cuda(found: dict[str, Any] | None) -> str:
    """The same from what the CUDA part says of itself and of this machine."""
    if found is None:
        return "the native module has no CUDA part: install where nvcc is found, or with FEDLPS_CUDA=on"
    if not found["driver"]:
        return "there is no CUDA driver here"
    if found["driver"] // 1000 < found["runtime"] // 1000:
        driver, runtime = (f"{found[name] // 1000}.{found[name] % 1000 // 10}" for name in ("driver", "runtime"))
        return f"the driver serves CUDA {driver}, older than the runtime's {runtime}: install a newer driver"
    if not found["capabilities"]:
        return "the driver finds no GPU"
    for number, capability in enumerate(found["capabilities"]):
        if tuple(capability) < OLDEST_GPU:
            return f"GPU {number} is sm_{capability[0]}{capability[1]}, older than sm_80"
    return ""


def serves_gpu(tensor: torch.Tensor) -> bool:
    """Whether this is a GPU's tensor and the CUDA part serves it."""
    return tensor.device.type == "cuda" and not why_no_cuda()


def gpu() -> Any:
    """The module of the functions whose names begin with cuda_. RuntimeError, one line, where it has none."""
    found = module()
    if found is None or not hasattr(found, "cuda_move"):
        raise RuntimeError(f"cuda: got a call, but {why_no_cuda()}")
    return found


def launch(name: str, tensor: torch.Tensor, *arguments: object) -> None:
    """Queues a function of the CUDA part on the tensor's device, in its current stream."""
    function = getattr(gpu(), f"cuda_{name}")
    if tensor.device.type != "cuda":  # a stand-in for the CPU
        function(*arguments, 0)
        return
    with torch.cuda.device(tensor.device):
        function(*arguments, torch.cuda.current_stream(tensor.device).cuda_stream)


def array(tensor: torch.Tensor) -> Array:
    """A contiguous tensor as it crosses: (address, shape, dtype). The caller keeps it alive."""
    return tensor.data_ptr(), tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")


def numpy_array(values: NDArray[Any]) -> Array:
    """The same of numpy's, which may be read-only."""
    return values.ctypes.data, values.shape, values.dtype.name


def maybe(tensor: torch.Tensor | None) -> Array | None:
    """The same, or none."""
    return None if tensor is None else array(tensor)


def arrays(*tensors: torch.Tensor) -> tuple[Array, ...]:
    """Each of them, as it crosses."""
    return tuple(map(array, tensors))


def threads() -> int:
    """Threads a call may use: torch's own setting."""
    return torch.get_num_threads()
