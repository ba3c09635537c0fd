"""How fast each client's device is, relative to the fastest: the levels of heterogeneity and their draw."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy

from fedlps.randomness import Purpose, stream
from fedlps.run.config import Config

LEVELS: dict[str, tuple[float, ...]] = {
    "high": (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16),
    "median": (1.0, 1 / 2, 1 / 4),
    "low": (1.0, 1 / 2),
}

Mode = Literal["dynamic", "fix"]


def draw(seed: int, round_number: int, clients: int, levels: Sequence[float], mode: Mode) -> numpy.ndarray:
    """The capability of every client in a round: float64 [clients], each one of `levels` with equal probability.

    round_number: counts from 0. mode: "dynamic" draws anew every round, "fix" keeps round 0's draw.
    """
    rng = stream(seed, Purpose.CAPABILITY, 0 if mode == "fix" else round_number)
    return numpy.asarray(levels, numpy.float64)[rng.integers(len(levels), size=clients)]


def speeds(config: Config, round_number: int) -> numpy.ndarray:
    """The capability of every client in a round, as configured: float64 [clients], read only."""
    levels = config.capability.levels
    values = LEVELS[levels] if isinstance(levels, str) else levels
    return _speeds(config.seed, round_number, config.clients, values, config.capability.mode)


@lru_cache(maxsize=2)
def _speeds(seed: int, round_number: int, clients: int, levels: tuple[float, ...], mode: Mode) -> numpy.ndarray:
    drawn = draw(seed, round_number, clients, levels, mode)
    drawn.flags.writeable = False
    return drawn
