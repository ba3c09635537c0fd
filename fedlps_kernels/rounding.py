"""How kernels read and store numbers. Triton code: functions of kernels, compiled with them."""

import triton
import triton.language as tl

NEVER_SPECIALIZED = (  # else sizes that happen to be 1 or multiples of 16 would compile kernels of their own
    "layer",
    "layers",
    "height",
    "width",
    "target_height",
    "target_width",
    "kernel",
    "stride",
    "padding",
    "splits",
    "widest",
    "classes",
    "channels",
    "room",
    "clients",
)


@triton.jit
def padded(count):
    """Channels rounded up to `places.PAD`, in a form that the compiler knows to be a multiple."""
    return tl.multiple_of((count + 15) // 16 * 16, 16)


@triton.jit
def single(values, UP: tl.constexpr):
    """As arithmetic wants them. UP: for the interpreter, which computes with bfloat16's bits as if they were integers."""
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
