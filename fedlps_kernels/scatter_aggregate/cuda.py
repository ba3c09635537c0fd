"""Folding a cohort's residuals into the global parameters on a GPU: csrc/cuda/scatter_aggregate.cu."""

import torch

from fedlps_kernels import native, on_device
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.places import Places
from fedlps_kernels.scatter_update.cuda import rank_units


def scatter_aggregate(
    parameters: torch.Tensor,
    residuals: torch.Tensor,
    places: Places,
    kept: torch.Tensor,
    counts: torch.Tensor,
    weights: torch.Tensor,
    model: OnDevice,
    result: torch.Tensor,
    *,
    rule: str = "sum",
) -> None:
    """`fedlps_kernels.scatter_aggregate` into `result` (P,); the residuals' entries lie at `places`."""
    ranks = torch.empty_like(kept)
    rank_units(kept, counts, model, ranks)
    arrays = *native.arrays(parameters, residuals), on_device.places(places), *native.arrays(ranks, weights)
    written = rule == "holders", native.array(result)
    native.launch("scatter_aggregate", parameters, model.crossing(), *arrays, *written)
