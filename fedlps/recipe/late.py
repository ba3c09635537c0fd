"""Rounds that do not wait for the last: who starts, whose update is late, until when it is kept, what it weighs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy
import torch

from fedlps.engine.cohort import Indices
from fedlps.recipe import aggregation, selection
from fedlps.recipe.availability import Availability
from fedlps.recipe.federation import Federation, Floats, Outcome
from fedlps.recipe.upload import Uploads

LATE = "late"  # the client's part of the store: its residual while it is under way; the server's table of them
CLIENT, REMAINING, ROUND = range(3)  # the table's columns: (n, 3) float64; seconds until it arrives, when it started
CLOCK = "clock"  # (2,): seconds since the start, and how long the next round is expected to last
SMOOTHING = 0.75  # weight of the latest round in the expectation


def ended(outcome: Outcome, share: float) -> float:
    """Seconds until a share of the clients is done, rounded up: a round's end."""
    seconds = sorted(cost.seconds for cost in outcome.costs)
    return seconds[math.ceil(share * len(seconds) - 1e-9) - 1]


def expected(latest: float, before: float) -> float:
    """Seconds of the next round, from the latest round's and what was expected of it."""
    return SMOOTHING * latest + (1 - SMOOTHING) * before


@dataclass(frozen=True)
class Available:
    """As many clients as are needed beside the late ones that are about to arrive, the least available first.

    availability: None: all clients always are. share: of a round's clients that it waits for.
    """

    share: float
    availability: Availability | None = None

    def choose(self, federation: Federation, number: int) -> Indices:
        """Of those that are available and not late, in the order of the round's draw where equally so.

        If none is available, the server waits for those that are not late.
        """
        config = federation.config
        late, (now, length) = table(federation), clock(federation)
        size = target(selection.cohort_size(config.clients, config.fraction), late, length)
        order = selection.draw(config.seed, number, config.clients, 1.0)
        order = order[~numpy.isin(order, late[:, CLIENT])]
        if self.availability is None:
            return order[:size]
        online = order[self.availability.online(federation, now)[order]]
        order = online if len(online) else order
        share = self.availability.predicted(federation, number, now + length, now + 2 * length)
        return prioritized(order, share, size)

    def observe(self, federation: Federation, outcome: Outcome) -> None:
        """Let the clock go on."""
        latest, (now, length) = ended(outcome, self.share), clock(federation)
        before = latest if outcome.round.number == 0 else length
        federation.store.put_tensor(CLOCK, numpy.array([now + latest, expected(latest, before)]))


@dataclass(frozen=True)
class WithLate:
    """An aggregation: the mean of updates, fresh ones with weight 1, late ones by how late and how different they are.

    share: of a round's clients that it waits for; the others' residuals are kept until their time has passed. beta:
    weight of the difference. Without a fresh update nothing changes, and what has arrived waits.
    """

    share: float
    beta: float

    def __call__(self, federation: Federation, outcome: Outcome, uploads: Uploads) -> torch.Tensor:
        """The global parameters (P,) after a round."""
        round_, length = outcome.round, ended(outcome, self.share)
        late, fresh, started = table(federation), [], []
        for row, position in enumerate(uploads.positions):
            client, seconds = int(round_.clients[position]), outcome.costs[position].seconds
            if seconds <= length:
                fresh.append(_full(uploads, row))
                continue
            federation.store.put_client(client, LATE, {"residual": _full(uploads, row).numpy()})
            started.append([client, seconds - length, round_.number])
        arrived = late[:, REMAINING] <= (length if fresh else -math.inf)
        stale, ages = [], round_.number - late[arrived, ROUND]
        for client in late[arrived, CLIENT].astype(numpy.int64).tolist():
            kept = federation.store.get_client(client, LATE)
            if kept is not None:
                stale.append(torch.from_numpy(kept["residual"]))
                federation.store.delete_client(client, LATE)
        waiting = late[~arrived] - [0, length, 0]
        federation.store.put_tensor(LATE, numpy.concatenate([waiting, numpy.array(started).reshape(-1, 3)]))
        if not fresh:
            return round_.global_parameters
        folded = round_.global_parameters - folded_in(fresh, stale, ages, self.beta).to(federation.dtype)
        return aggregation.with_noise(federation, outcome, folded)


def folded_in(fresh: list[torch.Tensor], stale: list[torch.Tensor], ages: Floats, beta: float) -> torch.Tensor:
    """The weighted mean of fresh and stale updates (P,), float64. ages: rounds that each of the stale is late."""
    weights = [1.0] * len(fresh) + list(stale_weights(ages, deviations(fresh, stale), beta))
    total = torch.zeros(len(fresh[0]), dtype=torch.float64)
    for weight, update in zip(weights, [*fresh, *stale], strict=True):
        total += weight * update
    return total / sum(weights)


def deviations(fresh: list[torch.Tensor], stale: list[torch.Tensor]) -> Floats:
    """How far each stale update would move the mean of the fresh ones, squared, relative to that mean."""
    mean = torch.stack(fresh).to(torch.float64).mean(0)
    norm = max(float(mean @ mean), numpy.finfo(numpy.float64).tiny)
    moves = [(update + len(fresh) * mean) / (len(fresh) + 1) - mean for update in stale]
    return numpy.array([float(move @ move) / norm for move in moves])


def stale_weights(ages: Floats, deviation: Floats, beta: float) -> Floats:
    """(1 - beta) / (age + 1) + beta (1 - e^-(deviation over the largest))."""
    relative = deviation / max(deviation.max(initial=0.0), numpy.finfo(numpy.float64).tiny)
    weights: Floats = (1 - beta) / (ages + 1) + beta * (1 - numpy.exp(-relative))
    return weights


def target(size: int, late: Floats, length: float) -> int:
    """Clients to start: size less the late ones that arrive within so many seconds, at least 1."""
    return max(1, size - int((late[:, REMAINING] <= length).sum()))


def prioritized(order: Indices, availability: Floats, count: int) -> Indices:
    """The clients of order that are least available, those before the others that come first in it where equally so."""
    return order[numpy.argsort(availability[order], kind="stable")[:count]]


def table(federation: Federation) -> Floats:
    """The late updates under way: (n, 3)."""
    stored = federation.store.get_tensor(LATE)
    return numpy.zeros((0, 3)) if stored is None else stored


def clock(federation: Federation) -> tuple[float, float]:
    """Seconds since the start, and how many the next round is expected to last (0 before the first)."""
    stored = federation.store.get_tensor(CLOCK)
    return (0.0, 0.0) if stored is None else (float(stored[0]), float(stored[1]))


def _full(uploads: Uploads, row: int) -> torch.Tensor:
    """A residual (P,), 0 where the client holds nothing."""
    models, layout = uploads.residuals, uploads.layout
    entries = layout.entries(models.kept[row], models.counts[row])
    full = torch.zeros(layout.parameters, dtype=models.parameters.dtype)
    full[entries] = models.parameters[row, : len(entries)]
    return full
