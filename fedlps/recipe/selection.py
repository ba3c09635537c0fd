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


def draw(seed: int, number: int, clients: int, fraction: float) -> Indices:
    """Clients drawn uniformly without replacement: int64 (C,), in cohort order. number: of the round, from 0."""
    return stream(seed, Purpose.SELECTION, number).permutation(clients)[: cohort_size(clients, fraction)]


def uniform() -> Selection:
    """Every client is as likely as any other."""

    def select(federation: Federation, number: int) -> Indices:
        config = federation.config
        return draw(config.seed, number, config.clients, config.fraction)

    return select
