"""Folding a cohort's residuals into the global parameters, in plain torch."""

import torch

from fedlps_kernels.layout import Layout


def scatter_aggregate(
    parameters: torch.Tensor,
    residuals: torch.Tensor,
    kept: torch.Tensor,
    counts: torch.Tensor,
    weights: torch.Tensor,
    layout: Layout,
    rule: str = "sum",
) -> torch.Tensor:
    """Spec section 6. parameters: (P,); residuals: (C, N); weights: (C,) float64. Returns (P,)."""
    total = torch.zeros(layout.parameters, dtype=torch.float64, device=parameters.device)
    held = torch.zeros_like(total)
    for residual, units, numbers, weight in zip(residuals, kept, counts, weights, strict=True):
        entries = layout.entries(units, numbers).to(parameters.device)
        total[entries] += weight * residual[: len(entries)].to(torch.float64)
        held[entries] += weight
    if rule == "holders":
        total = torch.where(held > 0, total / held, 0)
    return (parameters.to(torch.float64) - total).to(parameters.dtype)
