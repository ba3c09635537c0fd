"""How kernels read and store numbers. Triton code: functions of kernels, compiled with them."""

import inspect
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

# A kernel is compiled for the data's alignment and its constants, not for whatever sizes happen to be 1 or multiples of
# 16, or wherever lists and counts happen to lie: so what is compiled ahead of time is what runs.
ANY_SIZE = (
    *("layer", "layers", "height", "width", "target_height", "target_width", "kernel", "stride", "padding", "splits"),
    *("widest", "classes", "channels", "room", "clients", "positions"),
)
ANY_PLACE = (
    *("source_offsets", "source_channels", "gradient_offsets", "gradient_channels", "result_offsets"),
    *("result_channels", "offsets", "samples", "counts", "scale", "tiles", "number", "labels", "losses", "hits"),
    *("weight_places", "row_places", "column_places", "inner_places", "vector_places", "rows_places"),
    *("columns_places", "indices", "images", "table", "dense", "teacher_offsets"),
)


def kernel(function: Callable[..., None]) -> Any:
    """A kernel that is launched; functions of kernels are decorated with triton.jit alone."""
    names = inspect.signature(function).parameters
    sizes, places = ([name for name in names if name in group] for group in (ANY_SIZE, ANY_PLACE))
    return triton.jit(function, do_not_specialize=sizes, do_not_specialize_on_alignment=places)


@triton.jit
def padded(count):
    """Channels rounded up to `places.PAD`, in a form that the compiler knows to be a multiple."""
    return tl.multiple_of((count + 15) // 16 * 16, 16)


@triton.jit
def single(values, UP: tl.constexpr):
    """As arithmetic wants them. UP: for the interpreter, which takes bfloat16's bits for integers."""
    if UP:
        values = values.to(tl.float32)
    return values


@triton.jit
def stored(values, PRECISION: tl.constexpr, UP: tl.constexpr):
    """float32 numbers as a later product wants its operands: to nearest, ties away for TF32, to even for bfloat16.

    Matrix instructions drop what TF32 does not hold; the interpreter does the same where it makes bfloat16.
    """
    bits = values.to(tl.int32, bitcast=True)
    if PRECISION == "tf32":
        nearest = ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
        values = tl.where(values == values, nearest, values)
    elif PRECISION == "bf16":
        if UP:
            nearest = ((bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000).to(tl.float32, bitcast=True)
            values = tl.where(values == values, nearest, values)
        values = values.to(tl.bfloat16)
    return values
