"""A convolution per client, for clients of unequal sizes, and its gradients."""

from typing import Any

import torch

from fedlps_kernels import checks, launching, native
from fedlps_kernels.grouped_conv2d import definition
from fedlps_kernels.operator import differentiable, operator

LARGEST = 32  # csrc/cpu/tile.h, MAX_TAPS: the definition serves larger kernels and strides


def grouped_conv2d(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    bias: torch.Tensor | None,
    samples: torch.Tensor,
    columns: torch.Tensor,
    rows: torch.Tensor,
    *,
    stride: int = 1,
    padding: int = 0,
) -> torch.Tensor:
    """Each client's convolution (in torch's sense) of its leading samples and columns to its leading rows.

    C clients; room for N samples, I columns (input channels) and O rows (output channels).
    inputs: (C, N, I, H, W) float32 or float64, contiguous. weights: (C, O, I, K, K), bias: (C, O) or None: the same.
    samples, columns, rows: (C,) int32, 0 <= count <= N, I, O. Entries beyond a client's counts are not read.
    stride: at least 1; padding: zeros on each side, at least 0.
    Returns (C, N, O, Y, X), the same dtype, Y = 1 + (H + 2 padding - K) // stride, X likewise; zeros beyond a client's
    counts, in gradients too. Differentiable, twice too, in inputs, weights and bias.
    Raises TypeError for another dtype; ValueError for another shape, device, strides, counts, stride or padding.
    """
    outputs: torch.Tensor = _forward(inputs, weights, bias, samples, columns, rows, stride, padding)
    return outputs


def input_gradient(
    gradient: torch.Tensor,
    weights: torch.Tensor,
    samples: torch.Tensor,
    columns: torch.Tensor,
    rows: torch.Tensor,
    *,
    height: int,
    width: int,
    stride: int = 1,
    padding: int = 0,
) -> torch.Tensor:
    """From the gradient of the outputs, (C, N, O, Y, X), to that of the inputs, (C, N, I, H, W).

    height, width: H, W. The rest, and what it raises: as in `grouped_conv2d`. Differentiable.
    """
    result: torch.Tensor = _input_gradient(gradient, weights, samples, columns, rows, height, width, stride, padding)
    return result


def weight_gradient(
    inputs: torch.Tensor,
    gradient: torch.Tensor,
    samples: torch.Tensor,
    columns: torch.Tensor,
    rows: torch.Tensor,
    *,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """From the gradient of the outputs, (C, N, O, Y, X), to those of weights and bias, (C, O, I, K, K) and (C, O).

    kernel: K. The rest, and what it raises: as in `grouped_conv2d`. Differentiable.
    """
    weights, bias = _weight_gradient(inputs, gradient, samples, columns, rows, kernel, stride, padding)
    return weights, bias


def _size(size: int, kernel: int, stride: int, padding: int) -> int:
    return 1 + (size + 2 * padding - kernel) // stride


def _fake_forward(inputs: Any, weights: Any, bias: Any, samples: Any, columns: Any, rows: Any, *window: int) -> Any:
    height, width = (_size(size, weights.shape[4], *window) for size in inputs.shape[3:])
    return inputs.new_empty(*inputs.shape[:2], weights.shape[1], height, width)


@operator("grouped_conv2d", _fake_forward)
def _forward(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    bias: torch.Tensor | None,
    samples: torch.Tensor,
    columns: torch.Tensor,
    rows: torch.Tensor,
    stride: int,
    padding: int,
) -> torch.Tensor:
    counts, named = (samples, columns, rows), {"samples": samples, "columns": columns, "rows": rows}
    same = (inputs.dtype,), inputs.device
    checks.tensor("inputs", inputs, {"C": None, "N": None, "I": None, "H": None, "W": None}, checks.FLOATS)
    clients, room, channels, *sizes = inputs.shape
    checks.tensor("weights", weights, {"C": clients, "O": None, "I": channels, "K": None, "K'": None}, *same)
    units, kernel = weights.shape[1], checks.kernel(weights)
    if bias is not None:
        checks.tensor("bias", bias, {"C": clients, "O": units}, *same)
    checks.parts(named, clients, (room, channels, units), inputs.device)
    checks.window(sizes, kernel, stride, padding)
    shape = torch.Size((clients, room, units, *(_size(size, kernel, stride, padding) for size in sizes)))
    if launching.serves(inputs) and weights.numel():
        from fedlps_kernels.grouped_conv2d import packed

        return packed.grouped_conv2d(inputs, weights, bias, *counts, stride=stride, padding=padding, shape=shape)
    module = native.serving(inputs)
    if module is None or max(kernel, stride) > LARGEST:
        return definition.grouped_conv2d(inputs, weights, bias, *counts, stride=stride, padding=padding)
    outputs = inputs.new_zeros(shape)
    added = None if bias is None else native.array(bias)
    given = *native.arrays(inputs, weights), added, native.arrays(*counts)
    module.grouped_forward(*given, stride, padding, native.array(outputs), native.threads())
    return outputs


def _fake_input_gradient(gradient: Any, weights: Any, samples: Any, columns: Any, rows: Any, *sizes: int) -> Any:
    return gradient.new_empty(*gradient.shape[:2], weights.shape[2], *sizes[:2])


@operator("grouped_conv2d_input_gradient", _fake_input_gradient)
def _input_gradient(
    gradient: torch.Tensor,
    weights: torch.Tensor,
    samples: torch.Tensor,
    columns: torch.Tensor,
    rows: torch.Tensor,
    height: int,
    width: int,
    stride: int,
    padding: int,
) -> torch.Tensor:
    counts, named = (samples, columns, rows), {"samples": samples, "columns": columns, "rows": rows}
    same = (weights.dtype,), weights.device
    checks.tensor("weights", weights, {"C": None, "O": None, "I": None, "K": None, "K'": None}, checks.FLOATS)
    clients, units, channels, *_ = weights.shape
    kernel = checks.kernel(weights)
    checks.window((height, width), kernel, stride, padding)
    outputs = {letter: _size(size, kernel, stride, padding) for letter, size in (("Y", height), ("X", width))}
    checks.tensor("gradient", gradient, {"C": clients, "N": None, "O": units, **outputs}, *same)
    room = gradient.shape[1]
    checks.parts(named, clients, (room, channels, units), weights.device)
    window: dict[str, Any] = {"height": height, "width": width, "stride": stride, "padding": padding}
    if launching.serves(weights) and weights.numel():
        from fedlps_kernels.grouped_conv2d import packed

        return packed.input_gradient(gradient, weights, *counts, **window)
    module = native.serving(weights)
    if module is None or max(kernel, stride) > LARGEST:
        return definition.input_gradient(gradient, weights, *counts, **window)
    result = gradient.new_zeros(clients, room, channels, height, width)
    given = *native.arrays(gradient, weights), native.arrays(*counts)
    module.grouped_input_gradient(*given, stride, padding, native.array(result), native.threads())
    return result


def _fake_weight_gradient(
    inputs: Any, gradient: Any, samples: Any, columns: Any, rows: Any, kernel: int, *window: int
) -> tuple[Any, Any]:
    clients, _, units, *_ = gradient.shape
    return gradient.new_empty(clients, units, inputs.shape[2], kernel, kernel), gradient.new_empty(clients, units)


@operator("grouped_conv2d_weight_gradient", _fake_weight_gradient)
def _weight_gradient(
    inputs: torch.Tensor,
    gradient: torch.Tensor,
    samples: torch.Tensor,
    columns: torch.Tensor,
    rows: torch.Tensor,
    kernel: int,
    stride: int,
    padding: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    counts, named = (samples, columns, rows), {"samples": samples, "columns": columns, "rows": rows}
    same = (inputs.dtype,), inputs.device
    checks.tensor("inputs", inputs, {"C": None, "N": None, "I": None, "H": None, "W": None}, checks.FLOATS)
    clients, room, channels, *sizes = inputs.shape
    checks.window(sizes, kernel, stride, padding)
    outputs = {letter: _size(size, kernel, stride, padding) for letter, size in zip("YX", sizes, strict=True)}
    checks.tensor("gradient", gradient, {"C": clients, "N": room, "O": None, **outputs}, *same)
    units = gradient.shape[2]
    checks.parts(named, clients, (room, channels, units), inputs.device)
    window: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding}
    if launching.serves(inputs) and units and channels:
        from fedlps_kernels.grouped_conv2d import packed

        return packed.weight_gradient(inputs, gradient, *counts, **window)
    module = native.serving(inputs)
    if module is None or max(kernel, stride) > LARGEST:
        return definition.weight_gradient(inputs, gradient, *counts, **window)
    weights, bias = inputs.new_zeros(clients, units, channels, kernel, kernel), inputs.new_zeros(clients, units)
    given = *native.arrays(inputs, gradient), native.arrays(*counts)
    module.grouped_weight_gradient(*given, stride, padding, *native.arrays(weights, bias), native.threads())
    return weights, bias


# The three are each other's gradients: all come of one form that is linear in inputs, weights and outputs.


def _save_forward(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    images, weights, _, *counts, ctx.stride, ctx.padding = inputs
    ctx.save_for_backward(images, weights, *counts)


def _forward_backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    inputs, weights, *counts = ctx.saved_tensors
    window = ctx.stride, ctx.padding
    gradient = gradient.contiguous()
    to_inputs = to_weights = to_bias = None
    if ctx.needs_input_grad[0]:
        to_inputs = _input_gradient(gradient, weights, *counts, *inputs.shape[3:], *window)
    if any(ctx.needs_input_grad[1:3]):
        to_weights, to_bias = _weight_gradient(inputs, gradient, *counts, weights.shape[4], *window)
    return to_inputs, to_weights, to_bias if ctx.needs_input_grad[2] else None, *(None,) * 5


def _save_input_gradient(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    gradient, weights, *counts, _, _, ctx.stride, ctx.padding = inputs
    ctx.save_for_backward(gradient, weights, *counts)


def _input_gradient_backward(ctx: Any, inputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    gradient, weights, *counts = ctx.saved_tensors
    window = ctx.stride, ctx.padding
    inputs = inputs.contiguous()
    to_gradient = to_weights = None
    if ctx.needs_input_grad[0]:
        to_gradient = _forward(inputs, weights, None, *counts, *window)
    if ctx.needs_input_grad[1]:
        to_weights, _ = _weight_gradient(inputs, gradient, *counts, weights.shape[4], *window)
    return to_gradient, to_weights, *(None,) * 7


def _save_weight_gradient(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, gradient, *counts, _, ctx.stride, ctx.padding = inputs
    ctx.save_for_backward(images, gradient, *counts)


def _weight_gradient_backward(ctx: Any, weights: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    inputs, gradient, *counts = ctx.saved_tensors
    window = ctx.stride, ctx.padding
    weights, bias = weights.contiguous(), bias.contiguous()
    to_inputs = to_gradient = None
    if ctx.needs_input_grad[0]:
        to_inputs = _input_gradient(gradient, weights, *counts, *inputs.shape[3:], *window)
    if ctx.needs_input_grad[1]:
        to_gradient = _forward(inputs, weights, bias, *counts, *window)
    return to_inputs, to_gradient, *(None,) * 6


differentiable("grouped_conv2d", _forward_backward, _save_forward)
differentiable("grouped_conv2d_input_gradient", _input_gradient_backward, _save_input_gradient)
differentiable("grouped_conv2d_weight_gradient", _weight_gradient_backward, _save_weight_gradient)
