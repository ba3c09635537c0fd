"""Zeros that take memory only where they are written: most submodels are far smaller than the largest of their rows."""

import numpy
import torch


def zeros(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """(rows, columns) zeros on the CPU; the system gives a page when it is first written. dtype: float32 or float64."""
    return torch.from_numpy(numpy.zeros((rows, columns), dtype=str(dtype).removeprefix("torch.")))
