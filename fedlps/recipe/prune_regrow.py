"""Sparse training: while a client trains, its smallest weights are removed and as many regrown elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from fedlps.engine.plan import Hold, Job, Plan, Segment
from fedlps.randomness import Purpose, stream
from fedlps.recipe.federation import Federation, Round
from fedlps.recipe.objective import Objective, sgd
from fedlps.recipe.weight_masks import TOLERANCE, Places, capacity, largest, maskable, ones

FULL = 0.2  # a layer with a smaller share of zeros is nearly dense
ROOM = 0.99  # of its zeros, so many may be regrown
Density = Callable[[Round, int], float]
"""The density that the mask of the client at a position is to have."""


def trained_as_held() -> Objective:
    """Cross entropy from the received parameters, zero outside the mask that the client holds."""

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        return _plan(round_, holds, [(sgd(federation, round_),)] * len(holds))

    return plan


def pruned_and_regrown(
    rate: float,
    conv_only: bool,
    number: int,
    draw: int,
    interval: int = 1,
    exact: bool = True,
    density: Density = lambda round_, position: 1.0,
) -> Objective:
    """The same, but the mask changes at every boundary between epochs; of one epoch, in its middle.

    rate: share removed at the start, falling linearly to 0 at the end of the client's round. conv_only: masks cover
    convolutions only. number: the method's, draw: which of its draws chooses what is regrown. interval: only the last
    round of so many changes masks. exact: as many weights are regrown as were removed; else so many on average, with a
    correction towards the density.
    """

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        config, base = federation.config, sgd(federation, round_)
        places = maskable(federation.program, conv_only)
        segments = []
        for position, client in enumerate(round_.clients.tolist()):
            edges = due(federation, round_, position, interval)
            batches = -(-len(round_.training[position]) // config.batch)
            ids = (config.seed, Purpose.METHOD + number, draw, round_.number, client)
            target = None if exact else density(round_, position) * capacity(places)
            course = Course()
            changes = [
                PruneRegrow(places, rate * (1 - edge / (config.epochs * batches)), (*ids, boundary), course, target)
                for boundary, edge in enumerate(edges)
            ]
            segments.append(_with_changes(base, edges, changes))
        return _plan(round_, holds, segments)

    return plan


def due(federation: Federation, round_: Round, position: int, interval: int) -> list[int]:
    """The boundaries of a client's round, as steps done; none unless it is the last round of so many."""
    if (round_.number + 1) % interval:
        return []
    return boundaries(federation.config.epochs, -(-len(round_.training[position]) // federation.config.batch))


def boundaries(epochs: int, batches: int) -> list[int]:
    """Steps done when masks change: the ends of all epochs but the last; of one epoch, its middle batch."""
    return [batches // 2] if epochs == 1 else [epoch * batches for epoch in range(1, epochs)]


@dataclass(frozen=True)
class Course:
    """What becomes of a mask during one client's round: the weights that each layer keeps after each boundary.

    A boundary notes its own, the same every time it is computed; those after it and the accounting read it.
    """

    kept: dict[int, list[int]] = field(default_factory=dict)

    def before(self, boundary: int) -> list[int] | None:
        """What the last boundary before this one left; None: there was none."""
        earlier = [number for number in self.kept if number < boundary]
        return self.kept[max(earlier)] if earlier else None

    def correction(self, boundary: int, target: float) -> float:
        """By how much more a boundary regrows than was removed, so that the mask comes to the target's size."""
        adjusted, errors = 0.0, [target - sum(self.kept[number]) for number in range(boundary)]
        for number, error in enumerate(errors):
            adjusted = 0.25 * adjusted + 0.75 * error + sum(errors[: number + 1]) / (number + 1)
        return adjusted


@dataclass(frozen=True)
class PruneRegrow:
    """What happens at one boundary, as a plan's `Change`.

    places: of the layers' weights. rate: p_t. key: the stream that chooses the positions: seed, purpose, ids, the last
    of them the number of the boundary. target: weights of a mask of the right size; None: the size is kept exactly.
    """

    places: Places
    rate: float
    key: tuple[int, ...]
    course: Course = field(default_factory=Course)
    target: float | None = None

    def __call__(
        self, weights: torch.Tensor, mask: torch.Tensor, gradient: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Remove the smallest kept weights per layer, activate as many zeros at random; what is new starts at 0."""
        mask = mask.clone()
        shares = magnitude_shares(weights, mask, self.places)
        removed = []
        for place, share in zip(self.places, shares, strict=True):
            own = mask[place]
            kept, size = int(own.sum()), own.numel()
            empty = (size - kept) / size
            limited = empty < FULL and share * len(self.places) > 1
            removed.append(math.ceil((min(empty, self.rate) if limited else self.rate) * kept - TOLERANCE))
            magnitudes = torch.where(own, weights[place].abs(), -1.0)
            mask[place] = largest(magnitudes, kept - removed[-1])
        weights = torch.where(mask, weights, 0)
        self._regrow(mask, shares, sum(removed))
        self.course.kept[self.key[-1]] = ones(mask, self.places)
        return weights, mask

    def _regrow(self, mask: torch.Tensor, shares: Sequence[float], removed: int) -> None:
        """Activate zeros of the mask, in place."""
        generator, total = stream(*self.key), float(removed)
        if self.target is not None:
            total = max(0.0, removed + self.course.correction(self.key[-1], self.target))
        zeros = [int((~mask[place]).sum()) for place in self.places]
        for place, count in zip(self.places, regrown(shares, total, zeros), strict=True):
            candidates = (~mask[place]).nonzero()[:, 0].numpy()
            if self.target is None:
                chosen = generator.permutation(candidates)[:count]
            else:
                chosen = candidates[generator.random(len(candidates)) * len(candidates) < count]
            mask[place.start + chosen] = True


def magnitude_shares(weights: torch.Tensor, mask: torch.Tensor, places: Places) -> list[float]:
    """v_l: the layers' mean magnitudes of kept weights, divided by their sum; equal if all of them are 0."""
    means = []
    for place in places:
        own = weights[place][mask[place]].to(torch.float64)
        means.append(float(own.abs().mean()) if len(own) else 0.0)
    total = sum(means)
    return [mean / total if total else 1 / len(places) for mean in means]


def regrown(shares: Sequence[float], total: float, zeros: Sequence[int]) -> list[int]:
    """How many weights each layer activates: its share of the total, at most 0.99 of its zeros.

    What a layer has no room for is spread equally over those that have some, the first ones taking the remainder.
    """
    room = [math.floor(ROOM * count + TOLERANCE) for count in zeros]
    wanted = [math.ceil(share * total - TOLERANCE) for share in shares]
    counts = [min(pair) for pair in zip(wanted, room, strict=True)]
    left = sum(wanted) - sum(counts)
    while left and (free := [layer for layer, count in enumerate(counts) if count < room[layer]]):
        each, rest = divmod(left, len(free))
        for position, layer in enumerate(free):
            more = min(each + (position < rest), room[layer] - counts[layer])
            counts[layer] += more
            left -= more
    return counts


def _with_changes(base: Segment, edges: Sequence[int], changes: Sequence[PruneRegrow]) -> tuple[Segment, ...]:
    steps = [last - first for first, last in zip([0, *edges], edges, strict=False)]
    before = [
        replace(base, steps=count, after=change, carry_velocity=position > 0)
        for position, (count, change) in enumerate(zip(steps, changes, strict=True))
    ]
    return (*before, replace(base, carry_velocity=bool(before)))


def _plan(round_: Round, holds: Sequence[Hold], segments: Sequence[tuple[Segment, ...]]) -> Plan:
    received = round_.global_parameters
    return Plan(
        tuple(
            Job(client, hold, own, None if hold.mask is None else torch.where(hold.mask, received, 0))
            for client, (hold, own) in enumerate(zip(holds, segments, strict=True))
        ),
        frozenset({"mask"}),
    )
