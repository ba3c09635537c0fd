"""Every random number of a run comes from a fresh stream named by what it is for.

No generator lives between two uses, so a resumed run, another thread count, another executor and another grouping of
clients see the same draws.
"""

from enum import IntEnum

import numpy


class Purpose(IntEnum):
    """What a stream is for; the comment gives its ids. A method's own purposes start at `METHOD`."""

    DIGITS_DIVISION = 0  # none, seed 0
    SPLIT = 1  # none, or client
    INITIAL_PARAMETERS = 2  # none
    CAPABILITY = 3  # round (0 if fixed)
    SELECTION = 4  # round
    BATCHES = 5  # round, client
    RATIO = 6  # client, decision number
    INITIAL_IMPORTANCE = 7  # client
    RANDOM_PATTERN = 8  # round, client
    FAULTS = 9  # round
    AGGREGATE_NOISE = 10  # round
    METHOD = 100  # plus the method's number; what for, round, client


def stream(seed: int, purpose: int, *ids: int) -> numpy.random.Generator:
    """A fresh generator for one purpose. Rounds among the ids count from 0."""
    key = (int(purpose), *(int(identifier) for identifier in ids))
    return numpy.random.Generator(numpy.random.Philox(numpy.random.SeedSequence(seed, spawn_key=key)))
