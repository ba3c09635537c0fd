"""Batch-statistics norm per client and unit, in plain torch."""

import torch

EPSILON = 1e-5  # csrc/cpu/norm.cpp


def unit_norm(
    inputs: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, samples: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    """inputs: (C, N, O, ...); scale, shift: (C, O); counts: (C,). Returns (C, N, O, ...), zeros beyond."""
    outputs = torch.zeros_like(inputs)
    for client, (n, o) in enumerate(_counts(samples, rows)):
        normed, _ = _normed(inputs[client, :n, :o])
        outputs[client, :n, :o] = normed * _wide(scale[client, :o], normed) + _wide(shift[client, :o], normed)
    return outputs


def gradient(
    inputs: torch.Tensor, gradient: torch.Tensor, scale: torch.Tensor, samples: torch.Tensor, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """From the gradient of the outputs, (C, N, O, ...), to those of inputs, scale and shift, zeros beyond."""
    to_inputs, to_scale, to_shift = torch.zeros_like(inputs), torch.zeros_like(scale), torch.zeros_like(scale)
    for client, (n, o) in enumerate(_counts(samples, rows)):
        behind = gradient[client, :n, :o]
        normed, reciprocal = _normed(inputs[client, :n, :o])
        others = _others(behind)
        to_shift[client, :o] = behind.sum(others)
        to_scale[client, :o] = (behind * normed).sum(others)
        slope = (behind * normed).mean(others, keepdim=True)
        change = behind - behind.mean(others, keepdim=True) - normed * slope
        to_inputs[client, :n, :o] = _wide(scale[client, :o], normed) * reciprocal * change
    return to_inputs, to_scale, to_shift


def _counts(samples: torch.Tensor, rows: torch.Tensor) -> list[tuple[int, int]]:
    return list(zip(samples.tolist(), rows.tolist(), strict=True))


def _others(values: torch.Tensor) -> list[int]:
    """The dimensions over which a unit's statistics go."""
    return [0, *range(2, values.dim())]


def _wide(vector: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """One number per unit, beside its values."""
    return vector.view(-1, *(1,) * (values.dim() - 2))


def _normed(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, o, ...): less their mean, in units of their deviation; and the reciprocal of that, (1, o, 1...)."""
    centred = values - values.mean(_others(values), keepdim=True)
    variance = (centred**2).mean(_others(values), keepdim=True)
    reciprocal = (variance + EPSILON).rsqrt()
    return centred * reciprocal, reciprocal
