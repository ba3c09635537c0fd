"""Norm, ReLU and pooling of one client's image (n, channels, height, width), and their gradient."""

import torch
from torch.nn import functional

from fedlps.engine.cuda.launches import Chain
from fedlps_kernels.unit_norm.definition import EPSILON

Pair = tuple[torch.Tensor, torch.Tensor]


def statistics(values: torch.Tensor) -> Pair:
    """Mean and 1 / deviation per channel."""
    mean = values.mean(dim=(0, 2, 3))
    variance = ((values - mean[:, None, None]) ** 2).mean(dim=(0, 2, 3))
    return mean, (variance + EPSILON).rsqrt()


def forward(values: torch.Tensor, chain: Chain, norm: Pair | None, given: Pair | None) -> torch.Tensor:
    """norm: scale and shift; given: the statistics, (channels,) each."""
    if norm is not None and given is not None:
        (scale, shift), (mean, reciprocal) = norm, given
        factor = (scale * reciprocal)[:, None, None]
        values = (values - mean[:, None, None]) * factor + shift[:, None, None]
    if chain.relu:
        values = values.relu()
    if chain.pool == "max":
        return functional.max_pool2d(values, chain.window)
    return functional.avg_pool2d(values, chain.window) if chain.pool == "avg" else values


def backward(values: torch.Tensor, gradient: torch.Tensor, chain: Chain, norm: Pair | None) -> tuple[torch.Tensor, ...]:
    """Gradients of the values and, where there is a norm, of its scale and shift."""
    with torch.enable_grad():
        leaves = [one.detach().requires_grad_() for one in (values, *(norm or ()))]
        own = None if norm is None else (leaves[1], leaves[2])
        outputs = forward(leaves[0], chain, own, None if norm is None else statistics(leaves[0]))
    return torch.autograd.grad(outputs, leaves, gradient)
