"""Masks of single weights: which entries they cover, and how they are drawn, cut by magnitude, and counted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy
import torch

from fedlps.errors import InputError
from fedlps.program import Program

Places = tuple[slice, ...]
"""Where the maskable weights of each layer lie in the flat vector."""

TOLERANCE = 1e-9  # of floors and ceilings


def maskable(program: Program, conv_only: bool = False) -> Places:
    """The weights of all layers but the output layer; biases and norms are never masked. conv_only: of convolutions.

    InputError if there are none.
    """
    layers = [layer for layer in program.layers[:-1] if layer.kind == "conv" or not conv_only]
    if not layers:
        kind = "convolution" if conv_only else "layer"
        option = " or method.conv_only=false" if conv_only and len(program.layers) > 1 else ""
        raise InputError(f"model.name: no {kind} before the output layer to mask; expected a model with one{option}")
    return tuple(slice(layer.weight, layer.weight + layer.rows * layer.fan_in) for layer in layers)


def largest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """The count largest of the scores (n,), ties to the lower index: (n,) bool."""
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    chosen[torch.argsort(scores, descending=True, stable=True)[:count]] = True
    return chosen


def random_mask(
    size: int, places: Places, densities: Sequence[float], generator: numpy.random.Generator
) -> torch.Tensor:
    """Every weight of a layer kept with its density, everything else kept: (size,) bool."""
    mask = torch.ones(size, dtype=torch.bool)
    for place, density in zip(places, densities, strict=True):
        mask[place] = torch.from_numpy(generator.random(place.stop - place.start) < density)
    return mask


def ones(mask: torch.Tensor, places: Places) -> list[int]:
    """Kept weights of each layer."""
    return [int(mask[place].sum()) for place in places]


def capacity(places: Places) -> int:
    """Weights that masks cover."""
    return sum(place.stop - place.start for place in places)


def recalibrated(
    parameters: torch.Tensor, places: Places, sensitivity: Sequence[float], density: float
) -> torch.Tensor:
    """The largest magnitudes per layer, as many as its sensitivity asks for, cut to the density if that is more.

    parameters: (P,). sensitivity: weights that each layer should keep. Returns (P,) bool, all ones outside the places.
    """
    scale = min(1.0, density * capacity(places) / (sum(sensitivity) or 1))
    mask = torch.ones(len(parameters), dtype=torch.bool)
    for place, wanted in zip(places, sensitivity, strict=True):
        mask[place] = largest(parameters[place].abs(), math.floor(wanted * scale + TOLERANCE))
    return mask


def balanced(places: Places, densities: Sequence[float], density: float) -> list[float]:
    """Densities per layer scaled to the density of all together, each at most 1 (what is cut off is not spread)."""
    sizes = [place.stop - place.start for place in places]
    weighted = sum(own * size for own, size in zip(densities, sizes, strict=True))
    scale = density * sum(sizes) / (weighted or 1)
    return [min(1.0, scale * own) for own in densities]
