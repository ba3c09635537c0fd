"""The weighted residuals of a cohort, folded into the global parameters in cohort order."""

from typing import Any

import torch

from fedlps_kernels import checks, native, places
from fedlps_kernels.layout import Layout
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.operator import differentiable, operator
from fedlps_kernels.scatter_aggregate import cuda, definition


def scatter_aggregate(
    parameters: torch.Tensor,
    residuals: torch.Tensor,
    kept: torch.Tensor,
    counts: torch.Tensor,
    weights: torch.Tensor,
    layout: Layout,
    rule: str = "sum",
) -> torch.Tensor:
    """The next global parameters (spec section 6; [(13)]), summed in float64 in cohort order, then cast.

    rule `sum`: w - sum_k weights_k residual_k, entries that a client does not hold counting as no change.
    rule `holders`: per entry w less the weighted mean over the clients that hold it; unchanged if their weights are 0.

    parameters: w, (P,) float32 or float64, contiguous. residuals: (C, N), in compact order (`gather_weights`).
    kept: (C, U) int32, per group the client's ascending indices. counts: (C, G) int32. C may be 0: a copy of w.
    weights: (C,) float64, finite, not negative; taken as given.
    Returns (P,), the dtype of w. Differentiable once in parameters and residuals.
    Raises TypeError for another dtype; ValueError for another shape, device, strides, count, kept unit, weight or rule.
    """
    result: torch.Tensor = _aggregate(parameters, residuals, kept, counts, weights, layout.table, layout.groups, rule)
    return result


@operator("scatter_aggregate", lambda parameters, *_: torch.empty_like(parameters))
def _aggregate(
    parameters: torch.Tensor,
    residuals: torch.Tensor,
    kept: torch.Tensor,
    counts: torch.Tensor,
    weights: torch.Tensor,
    table: torch.Tensor,
    groups: torch.Tensor,
    rule: str,
) -> torch.Tensor:
    layout = Layout.of(table, groups)
    checks.tensor("parameters", parameters, {"P": layout.parameters}, checks.FLOATS)
    device = parameters.device
    checks.tensor("residuals", residuals, {"C": None, "N": None}, (parameters.dtype,), device)
    checks.submodels(kept, counts, groups, len(residuals), device)
    checks.capacity("residuals: N", residuals.shape[1], layout.compact_sizes(counts))
    checks.weights("weights", weights, len(residuals), device)
    checks.choice("rule", rule, ("sum", "holders"))
    result = torch.empty_like(parameters)
    if native.serves_gpu(parameters):
        own, model = places.compact(layout, counts, residuals.shape[1]).to(device), OnDevice.of(layout, device)
        cuda.scatter_aggregate(parameters, residuals, own, kept, counts, weights, model, result, rule=rule)
        return result
    module = native.serving(parameters)
    if module is None:
        return definition.scatter_aggregate(parameters, residuals, kept, counts, weights, layout, rule)
    inputs = native.arrays(table, groups, parameters, residuals, kept, counts, weights)
    module.scatter_aggregate(*inputs, rule == "holders", native.array(result), native.threads())
    return result


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    _, residuals, kept, counts, weights, table, groups, ctx.rule = inputs
    ctx.capacity = residuals.shape[1]
    ctx.save_for_backward(kept, counts, table, groups, weights)


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    *places, weights = ctx.saved_tensors
    each = gradient
    if ctx.rule == "holders":
        shares = weights[:, None].repeat(1, ctx.capacity)
        held = torch.ops.fedlps.scatter_weights(shares, *places, gradient.shape[0]).sum(dim=0)
        each = torch.where(held > 0, gradient / held, 0).to(gradient.dtype)
    residuals = torch.ops.fedlps.gather_weights(each[None].contiguous(), *places, ctx.capacity)
    return gradient, -residuals * weights[:, None].to(gradient.dtype), *(None,) * 6


differentiable("scatter_aggregate", _backward, _save)
