"""Kept rows and columns of flat parameters as compact vectors, and back."""

from typing import Any

import torch

from fedlps_kernels import checks, native, places, untouched
from fedlps_kernels.gather_weights import cuda, definition
from fedlps_kernels.layout import Layout
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.operator import differentiable, operator


def gather_weights(
    parameters: torch.Tensor, kept: torch.Tensor, counts: torch.Tensor, layout: Layout, capacity: int
) -> torch.Tensor:
    """Each client's submodel as one vector: per layer, in table order, the weight's kept rows x kept columns x inner,
    then bias, scale and shift of the kept rows (spec section 2). Rows and columns of group -1 are all kept.

    parameters: (C, P) float32 or float64, contiguous; (1, P): the same for all clients.
    kept: (C, U) int32, per group the client's ascending indices, as `select_units` returns them.
    counts: (C, G) int32, 0 <= count <= units of the group.
    capacity: N, at least the entries of the largest submodel (`layout.compact_sizes(counts).max()`).
    Returns (C, N), the same dtype, zeros past a client's size. Differentiable.
    Raises TypeError for another dtype; ValueError for another shape, device, strides, counts, kept units or capacity.
    """
    compact: torch.Tensor = _gather(parameters, kept, counts, layout.table, layout.groups, capacity)
    return compact


def scatter_weights(compact: torch.Tensor, kept: torch.Tensor, counts: torch.Tensor, layout: Layout) -> torch.Tensor:
    """The adjoint of `gather_weights`: each client's entries at their places.

    compact: (C, N) float32 or float64, contiguous; kept, counts: as there.
    Returns (C, P), the same dtype, zeros where nothing is kept. Differentiable. Raises as `gather_weights`.
    """
    parameters: torch.Tensor = _scatter(compact, kept, counts, layout.table, layout.groups, layout.parameters)
    return parameters


@operator("gather_weights", lambda parameters, kept, *rest: parameters.new_empty(kept.shape[0], rest[-1]))
def _gather(
    parameters: torch.Tensor,
    kept: torch.Tensor,
    counts: torch.Tensor,
    table: torch.Tensor,
    groups: torch.Tensor,
    capacity: int,
) -> torch.Tensor:
    layout = Layout.of(table, groups)
    checks.tensor("parameters", parameters, {"C or 1": None, "P": layout.parameters}, checks.FLOATS)
    clients = None if len(parameters) == 1 else len(parameters)
    checks.submodels(kept, counts, groups, clients, parameters.device)
    checks.capacity("capacity", capacity, layout.compact_sizes(counts))
    if native.serves_gpu(parameters):
        compact = parameters.new_zeros(len(kept), capacity)
        whole = places.dense(layout, len(kept), shared=len(parameters) == 1).to(parameters.device)
        own, model = places.compact(layout, counts, capacity).to(kept.device), OnDevice.of(layout, kept.device)
        cuda.move(parameters, whole, compact, own, counts, model, taken=kept)
        return compact
    module = native.serving(parameters)
    if module is None:
        return definition.gather_weights(parameters, kept, counts, layout, capacity)
    compact = untouched.zeros(len(kept), capacity, parameters.dtype)
    module.gather_weights(*native.arrays(table, groups, parameters, kept, counts, compact), native.threads())
    return compact


@operator("scatter_weights", lambda compact, kept, *rest: compact.new_empty(kept.shape[0], rest[-1]))
def _scatter(
    compact: torch.Tensor,
    kept: torch.Tensor,
    counts: torch.Tensor,
    table: torch.Tensor,
    groups: torch.Tensor,
    size: int,
) -> torch.Tensor:
    layout = Layout(table, groups, size)
    checks.tensor("compact", compact, {"C": None, "N": None}, checks.FLOATS)
    checks.submodels(kept, counts, groups, len(compact), compact.device)
    checks.capacity("compact: N", compact.shape[1], layout.compact_sizes(counts))
    if native.serves_gpu(compact):
        parameters = compact.new_zeros(len(kept), size)
        whole = places.dense(layout, len(kept)).to(compact.device)
        own, model = places.compact(layout, counts, compact.shape[1]).to(kept.device), OnDevice.of(layout, kept.device)
        cuda.move(compact, own, parameters, whole, counts, model, placed=kept)
        return parameters
    module = native.serving(compact)
    if module is None:
        return definition.scatter_weights(compact, kept, counts, layout)
    parameters = compact.new_empty(len(kept), size)
    module.scatter_weights(*native.arrays(table, groups, compact, kept, counts, parameters), native.threads())
    return parameters


def _save_gather(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    parameters, *places, _ = inputs
    ctx.rows, ctx.size = parameters.shape
    ctx.save_for_backward(*places)


def _gather_backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    scattered = _scatter(gradient.contiguous(), *ctx.saved_tensors, ctx.size)
    if ctx.rows == 1:
        scattered = scattered.sum(dim=0, keepdim=True)
    return scattered, *(None,) * 5


def _save_scatter(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    compact, *places, _ = inputs
    ctx.capacity = compact.shape[1]
    ctx.save_for_backward(*places)


def _scatter_backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return _gather(gradient.contiguous(), *ctx.saved_tensors, ctx.capacity), *(None,) * 5


differentiable("gather_weights", _gather_backward, _save_gather)
differentiable("scatter_weights", _scatter_backward, _save_scatter)
