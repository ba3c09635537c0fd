"""One step of the redundancies, in plain torch."""

import torch


def importance_step(
    redundancy: torch.Tensor,
    sums: torch.Tensor,
    unit_gradient: torch.Tensor,
    groups: torch.Tensor,
    *,
    lr: float,
    lam: float,
    kappa: float,
    reduction: str = "mean",
) -> torch.Tensor:
    """Spec section 4, step 2. redundancy, sums, unit_gradient: (C, U) floats of one dtype. Returns (C, U)."""
    c = coefficients(redundancy, groups, lam, reduction)
    return redundancy - lr * (c * (redundancy - torch.sigmoid(-sums)) - kappa * unit_gradient)


def coefficients(like: torch.Tensor, groups: torch.Tensor, lam: float, reduction: str) -> torch.Tensor:
    """c of every unit: (U,), 2 lam / units of its group for `mean`, 2 lam for `sum`; dtype and device of `like`."""
    units = like.shape[1]
    if reduction == "sum":
        return like.new_full((units,), 2 * lam)
    sizes = groups.diff()
    each = (2 * lam / sizes.to(torch.float64)).repeat_interleave(sizes, output_size=units)
    return each.to(like.device, like.dtype)
