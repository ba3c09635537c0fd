"""Selection by utility: who has high losses and is fast enough, and who has never been asked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy

from fedlps.engine.cohort import Indices
from fedlps.randomness import stream
from fedlps.recipe import accounting, capability, over_commit, selection
from fedlps.recipe.federation import Federation, Floats, Outcome

TABLE = "utility"  # the server's record of every client: (K, 5) float64, its columns are these
UTILITY, LAST, SECONDS, SAMPLES, TIMES = range(5)  # LAST: the last round counted from 1, 0 if never; TIMES: how often
HISTORY = "utility_rounds"  # mean utility of each round's participants
PERCENTILE = "utility_percentile"
SMALLEST_RANGE = 1e-4
EXPLORED_WINDOW = 5  # candidates per client that is explored
MOST_REFUSED = 0.3  # of all clients


@dataclass(frozen=True)
class Utility:
    """Draws by score among those who took part before, and by size and speed among those who did not.

    purpose: of its streams; draw 0 exploits, 1 explores, 2 fills up. exploration, decay, least: the share of clients
    explored, exploration * decay^t in round t from 1, at least least. cutoff: of the score at which candidates end.
    clip: quantile at which utilities are cut. penalty: power of T / seconds for clients slower than T. percentile: of
    all clients' seconds, where T lies; step: what is added to it every window rounds in which utility fell.
    over_commit: times as many clients start as are needed. blacklist: who counted in more rounds is not exploited any
    more; 0: all may be.
    """

    purpose: int
    exploration: float
    decay: float
    least: float
    cutoff: float
    clip: float
    penalty: float
    percentile: float
    step: float
    window: int
    over_commit: float = 1.0
    blacklist: int = 0

    def choose(self, federation: Federation, number: int) -> Indices:
        """The first round is uniform; then exploited, explored and filled-up clients, in this order."""
        config = federation.config
        needed = selection.cohort_size(config.clients, config.fraction)
        size = min(math.floor(self.over_commit * needed + 1e-9), config.clients)
        if number == 0:
            return selection.draw(config.seed, number, config.clients, 1.0)[:size]
        table, preferred = self._table(federation), self._preferred(federation)
        unknown, listed = numpy.flatnonzero(table[:, LAST] == 0), refused(table[:, TIMES], self.blacklist)
        known = numpy.setdiff1d(numpy.flatnonzero(table[:, LAST] > 0), listed)
        explored = self.share_explored(number + 1) if len(unknown) else 0.0
        exploiting = min(math.floor(size * (1 - explored) + 1e-9), len(known))
        own = table[known]
        values = scores(own[:, UTILITY], own[:, LAST], number + 1, self.clip)
        values = values * speed_factor(own[:, SECONDS], preferred, self.penalty)
        pool, weights = candidates(known, values, exploiting, self.cutoff)
        first = self._draw(federation, 0, number, pool, weights, exploiting)
        values = table[unknown, SAMPLES] * speed_factor(table[unknown, SECONDS], preferred, self.penalty)
        exploring = min(size - exploiting, len(unknown))
        window = numpy.argsort(-values, kind="stable")[: EXPLORED_WINDOW * exploring]
        second = self._draw(federation, 1, number, unknown[window], values[window], exploring)
        chosen = numpy.concatenate([first, second])
        missing = size - len(chosen)
        rest = numpy.setdiff1d(numpy.arange(config.clients), chosen)
        free = numpy.setdiff1d(rest, listed)
        rest = free if len(free) >= missing else rest
        return numpy.concatenate([chosen, self._draw(federation, 2, number, rest, numpy.ones(len(rest)), missing)])

    def observe(self, federation: Federation, outcome: Outcome) -> None:
        """Note utility, round and seconds of every client whose upload counts, and pace."""
        table = self._table(federation)
        round_ = outcome.round
        met = []
        for position in numpy.flatnonzero(over_commit.awaited(federation, outcome)).tolist():
            client, size = int(round_.clients[position]), len(round_.training[position])
            steps = -(-size // federation.config.batch)
            squared = sum(outcome.result.probes["squared_losses"][position][:steps])
            table[client, :SAMPLES] = utility(squared, size), round_.number + 1, outcome.costs[position].seconds
            table[client, TIMES] += 1
            met.append(table[client, UTILITY])
        federation.store.put_tensor(TABLE, table)
        stored = federation.store.get_tensor(HISTORY)
        history = numpy.append([] if stored is None else stored, numpy.mean(met) if met else 0.0)
        federation.store.put_tensor(HISTORY, history)
        federation.store.put_tensor(PERCENTILE, numpy.array([self.paced(self._percentile(federation), history)]))

    def share_explored(self, round_: int) -> float:
        """Of the clients, in a round counted from 1, while there are any that never took part."""
        return max(self.least, self.exploration * self.decay**round_)

    def paced(self, percentile: float, history: Floats) -> float:
        """The percentile after rounds of these mean utilities."""
        rounds, window = len(history), self.window
        if rounds % window or rounds < 2 * window:
            return percentile
        fell = history[-2 * window : -window].sum() > history[-window:].sum()
        return min(100.0, percentile + self.step) if fell else percentile

    def _draw(
        self, federation: Federation, what: int, number: int, pool: Indices, weights: Floats, count: int
    ) -> Indices:
        if count == 0:
            return numpy.empty(0, dtype=numpy.int64)
        rng = stream(federation.config.seed, self.purpose, what, number, 0)
        return rng.choice(pool, count, replace=False, p=weights / weights.sum())

    def _preferred(self, federation: Federation) -> float:
        return preferred_seconds(self._table(federation)[:, SECONDS], self._percentile(federation))

    def _percentile(self, federation: Federation) -> float:
        stored = federation.store.get_tensor(PERCENTILE)
        return self.percentile if stored is None else float(stored[0])

    def _table(self, federation: Federation) -> Floats:
        """The record; before the first round, sizes and the seconds that clients expect at the start."""
        stored = federation.store.get_tensor(TABLE)
        if stored is not None:
            return stored.copy()
        config = federation.config
        table = numpy.zeros((config.clients, 5))
        for client, speed in enumerate(capability.speeds(config, 0).tolist()):
            size = len(federation.split.client(client).train)
            table[client, SECONDS:TIMES] = accounting.dense_seconds(federation, size, speed), size
        return table


def refused(times: Floats, most: int) -> Indices:
    """The clients that took part more often than most, of at most a share of all those who did so most often."""
    if most == 0:
        return numpy.empty(0, dtype=numpy.int64)
    often = numpy.argsort(-times, kind="stable")[: math.floor(MOST_REFUSED * len(times) + 1e-9)]
    return often[times[often] > most]


def utility(squared: float, samples: int) -> float:
    """|B| sqrt(mean of squared losses). squared: their sum over the samples."""
    return samples * math.sqrt(squared / samples)


def scores(utilities: Floats, last: Floats, round_: int, clip: float) -> Floats:
    """Normed utility and how long a client has been away. last, round_: rounds counted from 1."""
    if len(utilities) == 0:
        return utilities
    ordered = numpy.sort(utilities)
    top = ordered[min(math.floor(clip * len(ordered) + 1e-9), len(ordered) - 1)]
    bottom = 0.999 * ordered[0]
    spread = max(ordered[-1] - bottom, SMALLEST_RANGE)
    normed: Floats = (numpy.minimum(utilities, top) - bottom) / spread + numpy.sqrt(0.1 * math.log(round_) / last)
    return normed


def speed_factor(seconds: Floats, preferred: float, penalty: float) -> Floats:
    """(T / seconds)^penalty for clients slower than T, else 1."""
    return numpy.where(seconds > preferred, numpy.minimum(preferred / seconds, 1) ** penalty, 1.0)


def preferred_seconds(seconds: Floats, percentile: float) -> float:
    """T: the seconds of the client at a percentile of all; infinite from 100 on."""
    if percentile >= 100:
        return math.inf
    return float(numpy.sort(seconds)[min(math.floor(len(seconds) * percentile / 100 + 1e-9), len(seconds) - 1)])


def candidates(known: Indices, values: Floats, count: int, cutoff: float) -> tuple[Indices, Floats]:
    """Who may be drawn: all of at least cutoff times the score of rank count (from 0; the last if there are fewer)."""
    if count == 0:
        return known[:0], values[:0]
    edge = cutoff * numpy.sort(values)[::-1][min(count, len(values) - 1)]
    return known[values >= edge], values[values >= edge]
