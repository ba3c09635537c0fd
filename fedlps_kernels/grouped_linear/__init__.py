"""A linear layer per client, for clients of unequal sizes."""

from typing import Any

import torch

from fedlps_kernels import checks, launching, native
from fedlps_kernels.grouped_conv2d import input_gradient, weight_gradient
from fedlps_kernels.grouped_linear import definition
from fedlps_kernels.operator import differentiable, operator


def grouped_linear(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    bias: torch.Tensor | None,
    samples: torch.Tensor,
    columns: torch.Tensor,
    rows: torch.Tensor,
) -> torch.Tensor:
    """Each client's linear layer from its leading samples and columns to its leading rows.

    C clients; room for N samples, I columns (features) and O rows (units).
    inputs: (C, N, I) float32 or float64, contiguous. weights: (C, O, I); bias: (C, O) or None; the same dtype.
    samples, columns, rows: (C,) int32, 0 <= count <= N, I, O. Entries beyond a client's counts are not read.
    Returns (C, N, O), the same dtype, zeros beyond a client's counts, in gradients too.
    Differentiable, twice too, in inputs, weights and bias.
    Raises TypeError for another dtype; ValueError for another shape, device, strides or counts.
    """
    outputs: torch.Tensor = _forward(inputs, weights, bias, samples, columns, rows)
    return outputs


@operator("grouped_linear", lambda inputs, weights, *_: inputs.new_empty(*inputs.shape[:2], weights.shape[1]))
def _forward(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    bias: torch.Tensor | None,
    samples: torch.Tensor,
    columns: torch.Tensor,
    rows: torch.Tensor,
) -> torch.Tensor:
    counts, named = (samples, columns, rows), {"samples": samples, "columns": columns, "rows": rows}
    same = (inputs.dtype,), inputs.device
    checks.tensor("inputs", inputs, {"C": None, "N": None, "I": None}, checks.FLOATS)
    clients, room, features = inputs.shape
    checks.tensor("weights", weights, {"C": clients, "O": None, "I": features}, *same)
    units = weights.shape[1]
    if bias is not None:
        checks.tensor("bias", bias, {"C": clients, "O": units}, *same)
    checks.parts(named, clients, (room, features, units), inputs.device)
    if launching.serves(inputs) and weights.numel():
        from fedlps_kernels.grouped_conv2d import packed

        maps, kernels = inputs[..., None, None], weights[..., None, None]
        shape = torch.Size((clients, room, units, 1, 1))
        return packed.grouped_conv2d(maps, kernels, bias, *counts, stride=1, padding=0, shape=shape).flatten(2)
    module = native.serving(inputs)
    if module is None:
        return definition.grouped_linear(inputs, weights, bias, *counts)
    outputs = inputs.new_zeros(clients, room, units)
    added = None if bias is None else native.array(bias)
    given = *native.arrays(inputs, weights), added, native.arrays(*counts)
    module.grouped_forward(*given, 1, 0, native.array(outputs), native.threads())
    return outputs


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    features, weights, _, *counts = inputs
    ctx.save_for_backward(features, weights, *counts)


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """The convolution's: a linear layer is one of kernel 1 on maps of one position."""
    inputs, weights, *counts = ctx.saved_tensors
    maps = gradient.contiguous()[..., None, None]
    to_inputs = to_weights = to_bias = None
    if ctx.needs_input_grad[0]:
        to_inputs = input_gradient(maps, weights[..., None, None], *counts, height=1, width=1).flatten(2)
    if any(ctx.needs_input_grad[1:3]):
        to_weights, to_bias = weight_gradient(inputs[..., None, None], maps, *counts, kernel=1)
        to_weights = to_weights.flatten(2)
    return to_inputs, to_weights, to_bias if ctx.needs_input_grad[2] else None, *(None,) * 3


differentiable("grouped_linear", _backward, _save)
