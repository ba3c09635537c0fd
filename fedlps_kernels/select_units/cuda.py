"""Selecting units on a GPU: csrc/cuda/select_units.cu."""

import torch

from fedlps_kernels import native
from fedlps_kernels.on_device import OnDevice


def select_units(
    scores: torch.Tensor,
    counts: torch.Tensor,
    model: OnDevice,
    kept: torch.Tensor,
    *,
    negated: bool = False,
    samples: torch.Tensor | None = None,
    changed: torch.Tensor | None = None,
) -> None:
    """scores: (C, U) floats; counts: (C, G) int32; kept: (C, U) int32, written.

    negated: the smallest scores are taken, ties to the lower index. samples: (C,) int32; a client with 0 of them keeps
    what it has. changed: (C, G) int32, written: 1 where kept is no longer what it was.
    """
    arrays = native.array(scores), negated, native.array(counts), (native.maybe(samples), None)
    written = native.array(kept), native.maybe(changed)
    native.launch("select_units", scores, model.crossing(), *arrays, *written)
