"""Sparse training: while a client trains, its smallest weights are removed and as many regrown elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from fedlps.engine.plan import Hold, Job, Plan, Segment
from fedlps.randomness import Purpose, stream
from fedlps.recipe.federation import Federation, Round
from fedlps.recipe.objective import Objective, sgd
from fedlps.recipe.weight_masks import TOLERANCE, Places, largest, maskable

FULL = 0.2  # a layer with a smaller share of zeros is nearly dense
ROOM = 0.99  # of its zeros, so many may be regrown


def trained_as_held() -> Objective:
    """Cross entropy from the received parameters, zero outside the mask that the client holds."""

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        return _plan(round_, holds, [(sgd(federation, round_),)] * len(holds))

    return plan


def pruned_and_regrown(rate: float, conv_only: bool, number: int, draw: int, interval: int = 1) -> Objective:
    """The same, but the mask changes at every boundary between epochs; of one epoch, in its middle.

    rate: share removed at the start, falling linearly to 0 at the end of the client's round. conv_only: masks cover
    convolutions only. number: the method's, draw: which of its draws chooses what is regrown. interval: only the last
    round of so many changes masks.
    """

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        config, base = federation.config, sgd(federation, round_)
        places = maskable(federation.program, conv_only)
        segments = []
        for client, own in zip(round_.clients.tolist(), round_.training, strict=True):
            batches = -(-len(own) // config.batch)
            edges = boundaries(config.epochs, batches) if (round_.number + 1) % interval == 0 else []
            ids = (config.seed, Purpose.METHOD + number, draw, round_.number, client)
            changes = [
                PruneRegrow(places, rate * (1 - edge / (config.epochs * batches)), (*ids, position))
                for position, edge in enumerate(edges)
            ]
            segments.append(_with_changes(base, edges, changes))
        return _plan(round_, holds, segments)

    return plan


def boundaries(epochs: int, batches: int) -> list[int]:
    """Steps done when masks change: the ends of all epochs but the last; of one epoch, its middle batch."""
    return [batches // 2] if epochs == 1 else [epoch * batches for epoch in range(1, epochs)]


@dataclass(frozen=True)
class PruneRegrow:
    """What happens at one boundary, as a plan's `Change`.

    places: of the layers' weights. rate: p_t. key: the stream that chooses the positions: seed, purpose, ids.
    """

    places: Places
    rate: float
    key: tuple[int, ...]

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
        zeros = [int((~mask[place]).sum()) for place in self.places]
        generator = stream(*self.key)
        for place, count in zip(self.places, regrown(shares, sum(removed), zeros), strict=True):
            candidates = (~mask[place]).nonzero()[:, 0].numpy()
            mask[place.start + generator.permutation(candidates)[:count]] = True
        return weights, mask


def magnitude_shares(weights: torch.Tensor, mask: torch.Tensor, places: Places) -> list[float]:
    """v_l: the layers' mean magnitudes of kept weights, divided by their sum; equal if all of them are 0."""
    means = []
    for place in places:
        own = weights[place][mask[place]].to(torch.float64)
        means.append(float(own.abs().mean()) if len(own) else 0.0)
    total = sum(means)
    return [mean / total if total else 1 / len(places) for mean in means]


def regrown(shares: Sequence[float], total: int, zeros: Sequence[int]) -> list[int]:
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
