"""Which clients take part in a round, and in which order their results are summed."""

import math
from collections.abc import Callable

from fedlps.engine.cohort import Indices
from fedlps.randomness import Purpose, stream
from fedlps.recipe.federation import Federation

Selection = Callable[[Federation, int], Indices]


def cohort_size(clients: int, fraction: float) -> int:
    """C, the clients selected per round: max(1, floor(fraction * clients + 1e-9))."""
    return max(math.floor(fraction * clients + 1e-9), 1)


def draw(seed: int, round: int, clients: int, fraction: float) -> Indices:
    """Clients drawn uniformly without replacement: int64 (C,), in cohort order. round counts from 0."""
    return stream(seed, Purpose.SELECTION, round).permutation(clients)[: cohort_size(clients, fraction)]


def uniform() -> Selection:
    """Every client is as likely as any other."""

    def select(federation: Federation, round: int) -> Indices:
        config = federation.config
        return draw(config.seed, round, config.clients, config.fraction)

    return select
