"""How many units each client keeps: fixed, by its capability, or decided by a bandit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy

from fedlps.bandit import Bandit, BanditParameters
from fedlps.cost import relative_cost
from fedlps.engine.cohort import Indices
from fedlps.engine.result import whole
from fedlps.recipe.federation import Federation, Floats, Outcome
from fedlps.run.config import Config


class Ratio(Protocol):
    """Chooses the ratios of a round, and learns from how it went."""

    def choose(self, federation: Federation, clients: Indices, capabilities: Floats) -> Floats:
        """(C,) ratios in (0, 1] of the selected clients, after any bound (section 5)."""
        ...

    def observe(self, federation: Federation, outcome: Outcome) -> None:
        """Take note of a round."""
        ...


@dataclass(frozen=True)
class Fixed:
    """The same ratio for every client, whatever its capability."""

    ratio: float = 1.0

    def choose(self, federation: Federation, clients: Indices, capabilities: Floats) -> Floats:
        """The one ratio."""
        return numpy.full(len(clients), self.ratio)

    def observe(self, federation: Federation, outcome: Outcome) -> None:
        """Nothing to learn."""


@dataclass(frozen=True)
class Capability:
    """RCR: a client keeps the share of units that its device is worth."""

    def choose(self, federation: Federation, clients: Indices, capabilities: Floats) -> Floats:
        """The capabilities."""
        return capabilities

    def observe(self, federation: Federation, outcome: Outcome) -> None:
        """Nothing to learn."""


@dataclass(frozen=True)
class BanditPerClient:
    """P-UCBV (Algorithm 2), one per client, bounded by the capability. Its state is the client's part `bandit`."""

    parameters: BanditParameters

    def choose(self, federation: Federation, clients: Indices, capabilities: Floats) -> Floats:
        """Each bandit's decision, reset to the capability where it exceeds it."""
        decisions = [self._bandit(federation, int(client)).ratio for client in clients]
        bounded: Floats = numpy.minimum(numpy.array(decisions), capabilities)
        return bounded

    def observe(self, federation: Federation, outcome: Outcome) -> None:
        """Reward every client that was not dropped; one that diverged with accuracy 0, its previous one standing."""
        observed = numpy.flatnonzero(outcome.result.diverged | ~outcome.dropped).tolist()
        bandits = [self._bandit(federation, int(outcome.round.clients[position])) for position in observed]
        new = [position for position, bandit in zip(observed, bandits, strict=True) if math.isnan(bandit.previous)]
        received = dict(zip(new, self._received(federation, outcome, new), strict=True))
        for position, bandit in zip(observed, bandits, strict=True):
            client = int(outcome.round.clients[position])
            diverged = bool(outcome.result.diverged[position])
            updated = bandit.update(
                self.parameters,
                federation.config.seed,
                client,
                ratio=float(outcome.round.ratios[position]),
                accuracy=float(outcome.accuracies[position]),
                previous=received.get(position, bandit.previous),
                cost=self._cost(federation, outcome, position),
                counted=not diverged,
            )
            federation.store.put_client(client, "bandit", updated.to_arrays())

    def _bandit(self, federation: Federation, client: int) -> Bandit:
        arrays = federation.store.get_client(client, "bandit")
        if arrays is None:
            return Bandit.start(self.parameters, federation.config.seed, client)
        return Bandit.from_arrays(arrays)

    def _received(self, federation: Federation, outcome: Outcome, positions: list[int]) -> list[float]:
        """The received full-width model's accuracy on the clients' data: `previous` before a first participation."""
        if not positions:
            return []
        model = whole(federation.program, outcome.round.global_parameters)
        own = [outcome.round.training[position] for position in positions]
        return list(map(float, federation.executor.evaluate(model.repeated(len(own)), own, "train").accuracies()))

    def _cost(self, federation: Federation, outcome: Outcome, position: int) -> float:
        round_ = outcome.round
        counts = round_.counts(federation)[position]
        work = federation.work(len(round_.training[position]), pattern_sent=True)
        speed = float(round_.capabilities[position])
        return relative_cost(federation.program, counts, work, speed, federation.rates)


def configured(config: Config) -> Ratio:
    """The rule that `ratio.rule` names: p-ucbv, rcr, or a number."""
    rule = config.ratio.rule
    if rule == "rcr":
        return Capability()
    if rule != "p-ucbv":
        return Fixed(float(rule))
    expected = config.rounds / (config.clients * config.fraction)
    ratio = config.ratio
    return BanditPerClient(
        BanditParameters(xi=expected, arms=ratio.arms, initial=ratio.initial, rho=ratio.rho, delta=ratio.delta)
    )
