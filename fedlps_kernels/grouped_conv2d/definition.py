"""A convolution per client and its gradients, in plain torch. Shapes as in `grouped_conv2d`; counts: (C,) integers."""

from collections.abc import Iterator

import torch
from torch.nn.functional import conv2d, conv_transpose2d

Places = tuple[int | slice, ...]


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
    """Returns (C, N, O, Y, X), zeros beyond a client's samples and rows."""
    height, width = (1 + (size + 2 * padding - weights.shape[4]) // stride for size in inputs.shape[3:])
    outputs = inputs.new_zeros(*inputs.shape[:2], weights.shape[1], height, width)
    for images, kernels, results in parts(samples, columns, rows):
        if weights[kernels].numel():
            outputs[results] = conv2d(inputs[images], weights[kernels], stride=stride, padding=padding)
        if bias is not None:
            outputs[results] += bias[kernels[:2]][:, None, None]
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
    stride: int,
    padding: int,
) -> torch.Tensor:
    """From the gradient of the outputs to that of the inputs: (C, N, I, H, W)."""
    result = gradient.new_zeros(*gradient.shape[:2], weights.shape[2], height, width)
    unseen = [(size + 2 * padding - weights.shape[4]) % stride for size in (height, width)]  # behind the last step
    for images, kernels, results in parts(samples, columns, rows):
        if weights[kernels].numel():
            result[images] = conv_transpose2d(
                gradient[results], weights[kernels], stride=stride, padding=padding, output_padding=unseen
            )
    return result


def weight_gradient(
    inputs: torch.Tensor,
    gradient: torch.Tensor,
    samples: torch.Tensor,
    columns: torch.Tensor,
    rows: torch.Tensor,
    *,
    kernel: int,
    stride: int,
    padding: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """From the gradient of the outputs to that of the weights, (C, O, I, K, K), and that of the bias, (C, O)."""
    clients, _, units = gradient.shape[:3]
    weights = gradient.new_zeros(clients, units, inputs.shape[2], kernel, kernel)
    bias = gradient.new_zeros(clients, units)
    for images, kernels, results in parts(samples, columns, rows):
        if weights[kernels].numel():
            # samples and channels change places: each input channel is a sample, each unit's gradient a kernel
            sums = conv2d(
                inputs[images].transpose(0, 1), gradient[results].transpose(0, 1), padding=padding, dilation=stride
            )
            weights[kernels] = sums.transpose(0, 1)[..., :kernel, :kernel]
        bias[kernels[:2]] = gradient[results].sum(dim=(0, 2, 3))
    return weights, bias


def parts(samples: torch.Tensor, columns: torch.Tensor, rows: torch.Tensor) -> Iterator[tuple[Places, Places, Places]]:
    """Each client's part of the inputs, of the weights and of the outputs; clients without outputs left out."""
    for client, (n, i, o) in enumerate(torch.stack([samples, columns, rows], dim=1).tolist()):
        if n and o:
            yield (client, slice(n), slice(i)), (client, slice(o), slice(i)), (client, slice(n), slice(o))
