"""The round loop: the only one there is. A method's parts decide, the executor computes, the store remembers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy
import torch

from fedlps.engine.cohort import cohort
from fedlps.engine.one_thread import one_thread
from fedlps.engine.plan import Plan
from fedlps.engine.result import LocalResult
from fedlps.history import note
from fedlps.interruption import Interruption
from fedlps.program import initial_parameters
from fedlps.recipe import Method, capability, state
from fedlps.recipe.federation import Federation, Outcome, Round
from fedlps.run.store import RunStore

PENDING_BYTES = 256 << 20  # client state that may wait in memory for the next checkpoint
COUNTED = ("flops_paper", "flops_executed", "bytes_up", "bytes_down")
TIMED = ("time_simulated", "train_s", "eval_s")

RoundCallback = Callable[[int, Mapping[str, float]], None]


class DivergedError(RuntimeError):
    """Every client of a round diverged. The message names round, clients and learning rate."""


@dataclass
class Clock:
    """When the next checkpoint is due."""

    seconds: float
    every: int | None
    last: float
    rounds: int = 0

    def due(self, pending_bytes: int) -> bool:
        """Called once per round: whether its end is a checkpoint."""
        self.rounds += 1
        late = time.monotonic() - self.last >= self.seconds
        return late or pending_bytes > PENDING_BYTES or (self.every is not None and self.rounds % self.every == 0)


class Simulation:
    """A federation under a method, from wherever its store stands."""

    def __init__(self, federation: Federation, method: Method, store: RunStore) -> None:
        self.federation = federation
        self.method = method
        self.store = store
        stored = store.get_tensor("global")
        initial = initial_parameters(federation.program, federation.config.seed) if stored is None else stored
        self.parameters = torch.from_numpy(initial).to(federation.dtype)
        counted, timed = store.get_tensor("counted"), store.get_tensor("timed")
        self.counted = [0] * len(COUNTED) if counted is None else counted.tolist()
        self.timed = [0.0] * len(TIMED) if timed is None else timed.tolist()

    def run(self, on_round: RoundCallback, interruption: Interruption) -> None:
        """Play the rounds that are left, with checkpoints on the way and at the end.

        on_round: called with the number (from 1) and metrics of each. interruption: a signal ends the run after the
        round or, while clients train, at once with InterruptedTraining; what the store holds then is the end of a
        round.
        """
        config = self.federation.config
        if self.store.rounds == 0 and self.method.prologue is not None:
            with interruption.allowed():
                self.parameters = self.method.prologue(self.federation, self.parameters)
        clock = Clock(config.checkpoint_seconds, config.checkpoint_every, time.monotonic())
        for number in range(self.store.rounds, config.rounds):
            with one_thread():
                metrics = self._play(number, interruption)
            self.store.put_tensor("global", self.parameters.numpy())
            self.store.put_tensor("counted", numpy.array(self.counted, dtype=numpy.int64))
            self.store.put_tensor("timed", numpy.array(self.timed))
            self.store.add_metrics(number + 1, metrics)
            stopping = interruption.signal is not None or number + 1 == config.rounds
            if clock.due(self.store.pending_bytes) or stopping:
                self.store.checkpoint()
                clock.last = time.monotonic()
            on_round(number + 1, metrics)
            if stopping:
                return

    def _play(self, number: int, interruption: Interruption) -> dict[str, float]:
        federation, method = self.federation, self.method
        started = time.perf_counter()
        round_ = self._begin(number)
        plan = method.objective(federation, round_, method.download(federation, round_))
        config = federation.config
        batches = cohort(config.seed, number, round_.clients, round_.training, epochs=config.epochs, batch=config.batch)
        with interruption.allowed():
            jobs = federation.executor.train(self.parameters, plan, batches)
        result = uploading(plan, jobs)
        if result.diverged.all():
            clients = ", ".join(map(str, round_.clients))
            raise DivergedError(f"round {number + 1}: all clients ({clients}) diverged at learning rate {round_.lr:g}")
        dropped = method.delivery(federation, round_, result)
        costs = method.accounting(federation, round_, plan)
        outcome = Outcome(round_, result, costs, dropped, plan, jobs)
        method.selection.observe(federation, outcome)
        method.ratio.observe(federation, outcome)
        state.keep(federation, outcome, method.state)
        note(federation, outcome)
        self.parameters = method.aggregation(federation, outcome, method.upload(federation, outcome))
        method.evaluation.remember(federation, outcome)
        trained = time.perf_counter()
        tested: dict[str, float] = {}
        if (number + 1) % config.evaluation.every == 0 or number + 1 == config.rounds:
            tested = method.evaluation.test(federation, number, self.parameters)
        self._charge(outcome, trained - started, time.perf_counter() - trained)
        own = method.measure(federation, outcome, self.parameters) if method.measure else {}
        return {**self._totals(), **_of_round(outcome), **tested, **own}

    def _begin(self, number: int) -> Round:
        federation, config = self.federation, self.federation.config
        clients = self.method.selection.choose(federation, number)
        speeds = capability.speeds(config, number)[clients]
        return Round(
            number=number,
            lr=config.lr * config.decay**number,
            clients=clients,
            training=tuple(federation.split.client(int(client)).train for client in clients),
            capabilities=speeds,
            ratios=self.method.ratio.choose(federation, clients, speeds),
            global_parameters=self.parameters,
        )

    def _charge(self, outcome: Outcome, train_s: float, eval_s: float) -> None:
        """Every selected client pays for its work; the upload of one that diverged is not sent (section 6)."""
        for position, cost in enumerate(outcome.costs):
            sent = 0 if outcome.result.diverged[position] else cost.bytes_up
            spent = (cost.flops_paper, cost.flops_executed, sent, cost.bytes_down)
            self.counted = [total + more for total, more in zip(self.counted, spent, strict=True)]
        spent_s = (self.method.duration(self.federation, outcome), train_s, eval_s)
        self.timed = [total + more for total, more in zip(self.timed, spent_s, strict=True)]

    def _totals(self) -> dict[str, float]:
        totals = [*map(float, self.counted), *self.timed]
        return dict(zip((*COUNTED, *TIMED), totals, strict=True))


def uploading(plan: Plan, jobs: LocalResult) -> LocalResult:
    """One result per client, in cohort order: of its job that uploads or, without one, of its own.

    A client diverged if any of its jobs did.
    """
    own = {job.client: row for row, job in enumerate(plan.jobs) if job.destination == "personal"}
    uploads = {job.client: row for row, job in enumerate(plan.jobs) if job.destination == "upload"}
    rows = own | uploads
    chosen = [rows[client] for client in sorted(rows)]
    result = jobs if chosen == list(range(len(plan.jobs))) else jobs[chosen]  # picking rows copies them
    for row, job in enumerate(plan.jobs):
        result.diverged[job.client] |= jobs.diverged[row]
    return result


def _of_round(outcome: Outcome) -> dict[str, float]:
    """The metrics of one round: unweighted means over its clients that did not diverge, and counts."""
    alive = ~outcome.result.diverged
    return {
        "train_loss": float(outcome.result.losses[alive].mean()) if alive.any() else math.nan,
        "train_accuracy": 100 * float(outcome.accuracies[alive].mean()) if alive.any() else math.nan,
        "ratio_mean": float(outcome.round.ratios.mean()),
        "diverged": float(outcome.result.diverged.sum()),
        "dropped": float(outcome.dropped.sum()),
    }
