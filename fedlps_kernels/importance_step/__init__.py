"""One step of every client's redundancies."""

from typing import Any

import torch

from fedlps_kernels import checks, native
from fedlps_kernels.importance_step import cuda, definition
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.operator import differentiable, operator


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
    """d - lr (c (d - sigmoid(-a)) - kappa t), c = 2 lam / units of the group, or 2 lam (spec section 4, step 2).

    redundancy: d = 1 - Q, (C, U) float32 or float64, contiguous. sums: a, unit_gradient: t, the same shape and dtype.
    groups: (G + 1,) int64 on the CPU; group g's units are groups[g] : groups[g + 1].
    lr, lam, kappa: finite. reduction: `mean` (c by the group's size) or `sum`.
    Returns (C, U), the same dtype. sigmoid(-a) keeps its relative precision up to a = 87 in float32, 708 in float64;
    beyond, it may be 0. Differentiable in d, a and t.
    Raises TypeError for another dtype; ValueError for another shape, device, strides, number or reduction.
    """
    stepped: torch.Tensor = _step(redundancy, sums, unit_gradient, groups, lr, lam, kappa, reduction)
    return stepped


@operator("importance_step", lambda redundancy, *_: torch.empty_like(redundancy))
def _step(
    redundancy: torch.Tensor,
    sums: torch.Tensor,
    unit_gradient: torch.Tensor,
    groups: torch.Tensor,
    lr: float,
    lam: float,
    kappa: float,
    reduction: str,
) -> torch.Tensor:
    checks.groups(groups)
    checks.tensor("redundancy", redundancy, {"C": None, "U": int(groups[-1])}, checks.FLOATS)
    shape = {"C": len(redundancy), "U": int(groups[-1])}
    for name, tensor in (("sums", sums), ("unit_gradient", unit_gradient)):
        checks.tensor(name, tensor, shape, (redundancy.dtype,), redundancy.device)
    for name, number in (("lr", lr), ("lam", lam), ("kappa", kappa)):
        checks.number(name, number)
    checks.choice("reduction", reduction, ("mean", "sum"))
    stepped = torch.empty_like(redundancy)
    if native.serves_gpu(redundancy):
        model, rate = OnDevice.of_groups(groups, redundancy.device), redundancy.new_full((1,), lr)
        cuda.importance_step(
            *(redundancy, sums, unit_gradient, model, stepped), lr=rate, lam=lam, kappa=kappa, reduction=reduction
        )
        return stepped
    module = native.serving(redundancy)
    if module is None:
        return definition.importance_step(
            redundancy, sums, unit_gradient, groups, lr=lr, lam=lam, kappa=kappa, reduction=reduction
        )
    inputs = native.arrays(groups, redundancy, sums, unit_gradient)
    module.importance_step(*inputs, lr, lam, kappa, reduction == "mean", native.array(stepped), native.threads())
    return stepped


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    _, sums, _, groups, ctx.lr, ctx.lam, ctx.kappa, ctx.reduction = inputs
    ctx.save_for_backward(sums, groups)


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    sums, groups = ctx.saved_tensors
    rate = ctx.lr * definition.coefficients(sums, groups, ctx.lam, ctx.reduction)
    target = torch.sigmoid(-sums)
    slope = target * torch.sigmoid(sums)  # of -sigmoid(-a)
    return gradient * (1 - rate), -gradient * rate * slope, gradient * (ctx.lr * ctx.kappa), *(None,) * 5


differentiable("importance_step", _backward, _save)
