"""Dynamic sparse training: after training, the smallest weights make room for those of the largest gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy
import torch

from fedlps.engine.plan import Hold, Plan
from fedlps.program import Program
from fedlps.recipe.federation import Federation, Round
from fedlps.recipe.objective import Objective, cross_entropy
from fedlps.recipe.personal_mask import First, stored_mask
from fedlps.recipe.weight_masks import TOLERANCE, Places, largest, maskable


def kernel_densities(program: Program, density: float) -> list[float]:
    """Erdos-Renyi kernel: densities of the maskable layers in proportion to the sum over the product of their shape.

    Together they keep `density` of all maskable weights; a layer that would exceed 1 is dense, the others share the
    rest.
    """
    shapes = {parameter.offset: parameter.shape for parameter in program.parameters}
    dimensions = [shapes[place.start] for place in maskable(program)]
    return spread([sum(shape) for shape in dimensions], [math.prod(shape) for shape in dimensions], density)


def spread(sums: Sequence[int], sizes: Sequence[int], density: float) -> list[float]:
    """Densities epsilon * sum / size of layers, made dense one at a time, the largest first, where they exceed 1."""
    densities = [1.0] * len(sizes)
    thin = list(range(len(sizes)))
    while thin:
        budget = density * sum(sizes) - sum(size for layer, size in enumerate(sizes) if layer not in thin)
        epsilon = budget / sum(sums[layer] for layer in thin)
        most = max(thin, key=lambda layer: sums[layer] / sizes[layer])
        if epsilon * sums[most] / sizes[most] <= 1:
            for layer in thin:
                densities[layer] = epsilon * sums[layer] / sizes[layer]
            break
        thin.remove(most)
    return densities


def drawn_mask(
    size: int, places: Places, densities: Sequence[float], generator: numpy.random.Generator
) -> torch.Tensor:
    """As many weights of each layer as its density asks for, rounded, at random; all else is kept: (size,) bool."""
    mask = torch.ones(size, dtype=torch.bool)
    for place, density in zip(places, densities, strict=True):
        weights = place.stop - place.start
        kept = math.floor(density * weights + 0.5)
        mask[place] = torch.from_numpy(generator.permutation(weights) < kept)
    return mask


def annealed(rate: float, number: int, rounds: int) -> float:
    """alpha_r: the rate falls from its full value to 0 over all rounds along a cosine. number: of the round, from 0."""
    return rate / 2 * (1 + math.cos(math.pi * number / rounds))


@dataclass(frozen=True)
class DropGrow:
    """The change of mask, as a plan's `Change`. places: of the layers' weights. rate: share of them that is dropped."""

    places: Places
    rate: float

    def __call__(
        self, weights: torch.Tensor, mask: torch.Tensor, gradient: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Drop the smallest kept weights per layer, activate as many zeros of the largest gradient.

        What was just dropped may return. The weights stay as they are: they were trained under the mask of before.
        """
        if gradient is None:
            raise ValueError("gradient: got None, expected that of the segment; set after_gradient")
        mask = mask.clone()
        for place in self.places:
            own = mask[place]
            kept = int(own.sum())
            dropped = math.ceil(self.rate * kept - TOLERANCE)
            left = largest(torch.where(own, weights[place].abs(), -1.0), kept - dropped)
            mask[place] = left | largest(torch.where(left, -1.0, gradient[place].abs()), dropped)
        return weights, mask


def dropped_and_grown(first: First, rate: float) -> Objective:
    """Cross entropy inside the client's mask, which changes after the last step; the probe `mask` tells the new one."""

    def start(federation: Federation, round_: Round, position: int) -> torch.Tensor:
        mask = stored_mask(federation, int(round_.clients[position]), first)
        return torch.where(mask, round_.global_parameters, 0)

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        inner = cross_entropy(start=start)(federation, round_, holds)
        change = DropGrow(maskable(federation.program), annealed(rate, round_.number, federation.config.rounds))
        jobs = [
            replace(job, segments=(*before, replace(last, after=change, after_gradient=True)))
            for job in inner.jobs
            for *before, last in [job.segments]
        ]
        return Plan(tuple(jobs), frozenset({"mask"}))

    return plan
