"""Whether Triton's kernels serve a tensor, and with how many programs. Works without triton installed."""

import functools
import importlib.util
import os

import torch

from fedlps_kernels.tiles import Tiles
from fedlps_kernels.tuning import DTYPES, Precision

INTERPRETER_PROGRAMS = 3
ALIGNMENT = 16  # bytes


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on CPU tensors: what TRITON_INTERPRET=1 asks for."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def available() -> bool:
    """Whether triton can be imported."""
    return importlib.util.find_spec("triton") is not None


def serves(tensor: torch.Tensor) -> bool:
    """Whether the ops hand such a tensor to Triton's kernels: float32 on a GPU, or anywhere in the interpreter."""
    return tensor.dtype == torch.float32 and (tensor.is_cuda or interpreted()) and available()


def architecture(device: torch.device | str) -> int:
    """The column of the tuning tables for a device: 80 or 90."""
    if torch.device(device).type != "cuda":
        return 90
    return 90 if torch.cuda.get_device_capability(device) >= (9, 0) else 80


def programs(tiles: Tiles, wanted: int | None) -> tuple[int]:
    """The grid of a launch that walks a list: as many as are resident, not more than the list has room for."""
    room = max(len(tiles.records), 1)
    if wanted is None:
        device = tiles.records.device
        wanted = processors(device) * tiles.block.resident if device.type == "cuda" else INTERPRETER_PROGRAMS
    return (min(wanted, room),)


@functools.cache
def processors(device: torch.device) -> int:
    """The multiprocessors of a GPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def check(precision: Precision, **values: torch.Tensor) -> None:
    """A known precision, and contiguous tensors of its dtype that begin where wide copies can."""
    if precision not in DTYPES:
        raise ValueError(f"precision: got {precision!r}, expected {' or '.join(DTYPES)}")
    for name, value in values.items():
        if value.dtype != DTYPES[precision]:
            raise TypeError(f"{name}: got dtype {value.dtype}, expected {DTYPES[precision]} for precision {precision}")
        if not value.is_contiguous():
            raise ValueError(f"{name}: got strides {value.stride()}, expected a contiguous tensor")
        if value.data_ptr() % ALIGNMENT:
            raise ValueError(f"{name}: got address {value.data_ptr():#x}, expected a multiple of {ALIGNMENT} bytes")
