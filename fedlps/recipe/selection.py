"""Which clients take part in a round, and in which order their results are summed."""

import math

import numpy

from fedlps.randomness import Purpose, stream


def cohort_size(clients: int, fraction: float) -> int:
    """C, the clients selected per round: max(1, floor(fraction * clients + 1e-9))."""
    return max(math.floor(fraction * clients + 1e-9), 1)


def uniform(seed: int, round_number: int, clients: int, fraction: float) -> numpy.ndarray:
    """Clients drawn uniformly without replacement: int64 [C], in cohort order. round_number counts from 0."""
    return stream(seed, Purpose.SELECTION, round_number).permutation(clients)[: cohort_size(clients, fraction)]
