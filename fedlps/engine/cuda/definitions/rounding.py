"""What products read is rounded to what they multiply, when it is stored."""

import torch

from fedlps.engine.cuda.launches import Precision

DROPPED = 13  # bits of a float32's mantissa that TF32 lacks


def rounded(values: torch.Tensor, precision: Precision) -> torch.Tensor:
    """To the nearest TF32 number, halves away from zero, where the precision is that; infinities and NaN stay."""
    if precision != "tf32" or values.dtype != torch.float32:
        return values
    bits = values.contiguous().view(torch.int32)
    nearest = ((bits + (1 << (DROPPED - 1))) & -(1 << DROPPED)).view(torch.float32)
    return torch.where(values.isfinite(), nearest, values)


def computed(values: torch.Tensor) -> torch.Tensor:
    """In the type that sums are made in."""
    return values.float() if values.dtype == torch.bfloat16 else values
