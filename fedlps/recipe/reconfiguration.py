"""Adaptive pruning: the server keeps the weights whose importance is worth the time that they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy
import torch
from numpy.typing import NDArray

from fedlps.cost import VALUE_BYTES, paper_flops, row_weights
from fedlps.engine.plan import Hold, Plan, Probe
from fedlps.recipe.aggregation import Aggregation, residuals
from fedlps.recipe.consensus import keep_masks, server_masks
from fedlps.recipe.federation import Federation, Floats, Outcome, Round
from fedlps.recipe.objective import Objective, cross_entropy
from fedlps.recipe.upload import Uploads
from fedlps.recipe.weight_masks import TOLERANCE, Places, largest, maskable, ones


@dataclass(frozen=True)
class Reconfiguration:
    """How and when the mask is made anew.

    interval: rounds between two; 0: never. share: of the current weights of each layer, the smallest, that must prove
    themselves; halved every half_life rounds. percentile: keep per layer what is above the percentile of that share
    instead, which is halved every round.
    """

    interval: int
    share: float
    half_life: float
    percentile: bool

    def due(self, number: int) -> bool:
        """Whether a round, counted from 0, ends with one: the second, and every interval after it."""
        return self.interval > 0 and (number - 1) % self.interval == 0

    def mask(
        self,
        federation: Federation,
        parameters: torch.Tensor,
        mask: torch.Tensor,
        importance: torch.Tensor,
        steps: float,
        number: int,
    ) -> torch.Tensor:
        """The new mask (P,).

        parameters, mask: (P,), the current ones. importance: (P,) float64, G. steps: of a client's local round. number:
        of the round, from 0.
        """
        places = maskable(federation.program)
        if self.percentile:
            return above_percentile(importance, places, self.share * 0.5**number)
        share = self.share * 0.5 ** (number / self.half_life)
        times, rest = entry_times(federation, steps)
        return worthwhile(parameters, mask, importance, places, share, times, rest)


def entry_times(federation: Federation, steps: float) -> tuple[list[float], float]:
    """Seconds that one weight of each maskable layer costs the fastest client, and those of all that is never pruned.

    steps: of a local round. Both for computing by the paper's count and for the upload.
    """
    program, rates = federation.program, federation.rates
    samples = steps * federation.config.batch
    value = rates.alpha * VALUE_BYTES / rates.bytes_per_second
    times = [6 * layer.positions * samples / rates.flops_per_second + value for layer in program.layers[:-1]]
    everything = 3 * samples * paper_flops(program, row_weights(program, federation.all_counts))
    whole = everything / rates.flops_per_second + value * program.size
    sizes = [place.stop - place.start for place in maskable(program)]
    return times, whole - sum(size * time for size, time in zip(sizes, times, strict=True))


def worthwhile(
    parameters: torch.Tensor,
    mask: torch.Tensor,
    importance: torch.Tensor,
    places: Places,
    share: float,
    times: list[float],
    rest: float,
) -> torch.Tensor:
    """Per layer the largest current weights but for a share are kept; others are added by importance per second.

    They are added while theirs exceeds that of all kept together. times: per weight of each layer. rest: of what is
    never pruned.
    """
    new = torch.ones_like(mask)
    for place in places:
        current = mask[place]
        kept = int(current.sum())
        sure = kept - math.floor(share * kept + TOLERANCE)
        new[place] = largest(torch.where(current, parameters[place].abs(), -1.0), sure)
    gained = float(importance[new].sum())
    spent = rest + sum(count * time for count, time in zip(ones(new, places), times, strict=True))
    candidates = [place.start + (~new[place]).nonzero()[:, 0].numpy() for place in places]
    each = numpy.repeat(times, [len(own) for own in candidates])
    entries = numpy.concatenate(candidates)
    values = importance.numpy()[entries]
    order = numpy.argsort(-values / each, kind="stable")
    added = worth_adding(values[order], each[order], gained, spent)
    new[torch.from_numpy(entries[order[:added]])] = True
    return new


def worth_adding(importance: Floats, times: Floats, gained: float, spent: float) -> int:
    """How many candidates, sorted by importance per second, exceed that of all before them and what is kept."""
    before = (gained + numpy.cumsum(importance) - importance) / (spent + numpy.cumsum(times) - times)
    failing: NDArray[numpy.int64] = numpy.flatnonzero(importance / times <= before)
    return int(failing[0]) if len(failing) else len(importance)


def above_percentile(importance: torch.Tensor, places: Places, share: float) -> torch.Tensor:
    """The weights of each layer whose importance is not below the percentile of a share, linearly interpolated."""
    mask = torch.ones(len(importance), dtype=torch.bool)
    for place in places:
        values = importance[place].numpy()
        mask[place] = torch.from_numpy(values >= numpy.quantile(values, share))
    return mask


def steps_of(federation: Federation, samples: int) -> int:
    """Steps of a local round of a client with so many training samples."""
    return federation.config.epochs * -(-samples // federation.config.batch)


def squared(outcome_gradients: list[torch.Tensor], sizes: list[int]) -> torch.Tensor:
    """G (P,) float64: the sum of squared gradients (P,), each weighted by its client's samples."""
    return sum(
        (size * own.to(torch.float64) ** 2 for own, size in zip(outcome_gradients, sizes, strict=True)),
        torch.zeros(len(outcome_gradients[0]), dtype=torch.float64),
    )


def watched(rule: Reconfiguration) -> Objective:
    """Cross entropy inside the mask; before a reconfiguration clients sum up the gradients of all entries."""

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        probes: frozenset[Probe] = frozenset({"gradients"} if rule.due(round_.number) else ())
        return replace(cross_entropy()(federation, round_, holds), probes=probes)

    return plan


def reconfigured(rule: Reconfiguration) -> Aggregation:
    """The average by data size under the server's mask, which is made anew when that is due."""
    average = residuals("residual")

    def aggregate(federation: Federation, outcome: Outcome, uploads: Uploads) -> torch.Tensor:
        round_, mask = outcome.round, server_masks(federation)[0]
        mean = torch.where(mask, average(federation, outcome, uploads), 0)
        if rule.due(round_.number) and len(uploads):
            sizes = [len(round_.training[position]) for position in uploads.positions]
            gradients = [outcome.result.probes["gradients"][position] for position in uploads.positions]
            steps = float(numpy.mean([steps_of(federation, size) for size in sizes]))
            mask = rule.mask(federation, mean, mask, squared(gradients, sizes), steps, round_.number)
        keep_masks(federation, [mask])
        return torch.where(mask, mean, 0)

    return aggregate
