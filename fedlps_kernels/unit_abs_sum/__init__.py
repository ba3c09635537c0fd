"""Per unit, the sum of the absolute values of its incoming weights."""

from typing import Any

import torch

from fedlps_kernels import checks, native
from fedlps_kernels.layout import Layout
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.operator import differentiable, operator
from fedlps_kernels.unit_abs_sum import cuda, definition


def unit_abs_sum(parameters: torch.Tensor, layout: Layout) -> torch.Tensor:
    """The unit absolute sums a(w) (spec section 3): per unit, over the layers of its group, the sum of |entries| of its
    weight rows, over all columns; bias, scale and shift are not included.

    parameters: (C, P) float32 or float64, contiguous.
    Returns (C, U), the same dtype. Differentiable once; the gradient at an entry of 0 is 0.
    Raises TypeError for another dtype, ValueError for another shape or strides.
    """
    sums: torch.Tensor = _sum(parameters, layout.table, layout.groups, layout.units)
    return sums


@operator("unit_abs_sum", lambda parameters, table, groups, units: parameters.new_empty(parameters.shape[0], units))
def _sum(parameters: torch.Tensor, table: torch.Tensor, groups: torch.Tensor, units: int) -> torch.Tensor:
    layout = Layout.of(table, groups)
    checks.tensor("parameters", parameters, {"C": None, "P": layout.parameters}, checks.FLOATS)
    sums = parameters.new_empty(len(parameters), layout.units)
    if native.serves_gpu(parameters):
        cuda.unit_abs_sum(parameters, OnDevice.of(layout, parameters.device), sums)
        return sums
    module = native.serving(parameters)
    if module is None:
        return definition.unit_abs_sum(parameters, layout)
    module.unit_abs_sum(*native.arrays(table, groups, parameters, sums), native.threads())
    return sums


@operator("unit_abs_sum_gradient", lambda gradient, parameters, *_: torch.empty_like(parameters))
def _gradient(
    gradient: torch.Tensor, parameters: torch.Tensor, table: torch.Tensor, groups: torch.Tensor
) -> torch.Tensor:
    return definition.unit_abs_sum_gradient(gradient, parameters, Layout.of(table, groups))


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return _gradient(gradient, *ctx.saved_tensors), None, None, None


differentiable("unit_abs_sum", _backward, _save)
