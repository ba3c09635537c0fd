"""Which clients take part in a round, and in which order their results are summed."""

import math
from dataclasses import dataclass
from typing import Protocol

from fedlps.engine.cohort import Indices
from fedlps.randomness import Purpose, stream
from fedlps.recipe.federation import Federation, Outcome


def cohort_size(clients: int, fraction: float) -> int:
    """C, the clients selected per round: max(1, floor(fraction * clients + 1e-9))."""
    return max(math.floor(fraction * clients + 1e-9), 1)


def draw(seed: int, number: int, clients: int, fraction: float) -> Indices:
    """Clients drawn uniformly without replacement: int64 (C,), in cohort order. number: of the round, from 0."""
    return stream(seed, Purpose.SELECTION, number).permutation(clients)[: cohort_size(clients, fraction)]


class Selection(Protocol):
    """Chooses the clients of a round, and learns from how it went."""

    def choose(self, federation: Federation, number: int) -> Indices:
        """int64 (C,), distinct, in cohort order. number: of the round, from 0."""
        ...

    def observe(self, federation: Federation, outcome: Outcome) -> None:
        """Take note of a round."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Every client is as likely as any other."""

    def choose(self, federation: Federation, number: int) -> Indices:
        """The round's draw."""
        config = federation.config
        return draw(config.seed, number, config.clients, config.fraction)

    def observe(self, federation: Federation, outcome: Outcome) -> None:
        """Nothing to learn."""
