"""When clients can be reached: a simulated trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy
from numpy.typing import NDArray

from fedlps.randomness import stream
from fedlps.recipe import accounting
from fedlps.recipe.federation import Federation, Floats


class Availability(Protocol):
    """Which clients can be reached, and what is expected of them."""

    def online(self, federation: Federation, now: float) -> NDArray[numpy.bool_]:
        """(K,) who can be reached, so many simulated seconds after the start."""
        ...

    def predicted(self, federation: Federation, number: int, start: float, end: float) -> Floats:
        """(K,) the share of a span of time that each client is expected to be online; predicted in a round."""
        ...


@dataclass(frozen=True)
class Cycles:
    """Every client is online for the first part of its own cycle, again and again.

    purpose: of the streams; draw `first` gives lengths and phases of the cycles, the next one which predictions are
    wrong. online_share: of a cycle. cycle: its mean length, in rounds of a client alone on the fastest device; a
    client's own lies between half and one and a half of it. reliability: probability that a prediction is right; a
    wrong one tells the opposite.
    """

    purpose: int
    first: int
    online_share: float
    cycle: float
    reliability: float

    def online(self, federation: Federation, now: float) -> NDArray[numpy.bool_]:
        """Who is in the first part of its cycle."""
        lengths, phases = self._cycles(federation)
        reached: NDArray[numpy.bool_] = (now + phases) % lengths < self.online_share * lengths
        return reached

    def predicted(self, federation: Federation, number: int, start: float, end: float) -> Floats:
        """The true share, or for those predicted wrongly 1 less it."""
        share = self.online(federation, start).astype(float)
        if end > start:
            share = (self._spent(federation, end) - self._spent(federation, start)) / (end - start)
        rng = stream(federation.config.seed, self.purpose, self.first + 1, number, 0)
        return numpy.where(rng.random(federation.config.clients) < self.reliability, share, 1 - share)

    def _spent(self, federation: Federation, now: float) -> Floats:
        """(K,) seconds online since the beginning of the cycle that the start fell into."""
        lengths, phases = self._cycles(federation)
        whole, rest = numpy.divmod(now + phases, lengths)
        spent: Floats = self.online_share * lengths * whole + numpy.minimum(rest, self.online_share * lengths)
        return spent

    def _cycles(self, federation: Federation) -> tuple[Floats, Floats]:
        """(K,) lengths in seconds, and how far in its cycle each client is at the start."""
        rng = stream(federation.config.seed, self.purpose, self.first, 0, 0)
        draws = rng.random((2, federation.config.clients))
        unit = accounting.dense_seconds(federation, len(federation.split.client(0).train), 1.0)
        lengths = unit * self.cycle * (0.5 + draws[0])
        return lengths, draws[1] * lengths
