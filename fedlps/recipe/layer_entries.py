"""Which entries of the flat vector belong to some layers."""

from collections.abc import Iterable

import torch

from fedlps.program import Layer, Program


def entries_of(program: Program, layers: Iterable[Layer]) -> torch.Tensor:
    """(P,) bool: weights, biases, scales and shifts of the layers."""
    mask = torch.zeros(program.size, dtype=torch.bool)
    for layer in layers:
        mask[layer.weight : layer.weight + layer.rows * layer.fan_in] = True
        for offset in (layer.bias, layer.scale, layer.shift):
            if offset is not None:
                mask[offset : offset + layer.rows] = True
    return mask
