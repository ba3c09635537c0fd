"""Models that are adapted to a client before they are tested, and training that prepares for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy
import torch

from fedlps.engine.cohort import cohort
from fedlps.engine.plan import Hold, Pass, Plan, Segment
from fedlps.recipe.accounting import Accounting
from fedlps.recipe.evaluation import MODELS, MODELS_BYTES, global_accuracies
from fedlps.recipe.federation import Federation, Floats, Outcome, Round
from fedlps.recipe.objective import Objective, cross_entropy, sgd

Optimiser = Callable[[Federation, Round], Segment]


def configured(federation: Federation, round_: Round) -> Segment:
    """Training's optimiser, all the batches there are."""
    return sgd(federation, round_)


def plain(rate: float, steps: int) -> Optimiser:
    """So many steps along the gradient, no more than there are batches."""

    def segment(federation: Federation, round_: Round) -> Segment:
        return Segment(rate, steps=steps)

    return segment


@dataclass(frozen=True)
class AdaptedModels:
    """Tests, besides the global model, a copy of it that each client has trained on its data, as test_last.

    purpose: of the stream that orders the samples (draw 0, round, client). epochs: how many there are batches of. The
    learning rate is that of the first round. A copy that diverged is tested as it was received. What it costs is no
    client's cost: adaptation_flops is the executed operations of all clients, of this evaluation.
    """

    purpose: int
    epochs: int
    optimiser: Optimiser = configured

    def remember(self, federation: Federation, outcome: Outcome) -> None:
        """Nothing: copies are made when they are tested."""

    def test(self, federation: Federation, number: int, global_parameters: torch.Tensor) -> dict[str, float]:
        """test_global, test_last and adaptation_flops."""
        overall = global_accuracies(federation, global_parameters)
        groups = _chunks(federation)
        tested = [self._adapted(federation, number, global_parameters, clients) for clients in groups]
        own = numpy.concatenate([accuracies for accuracies, _ in tested])
        return {
            "test_global": 100 * float(overall.mean()),
            "test_last": 100 * float(numpy.where(numpy.isnan(own), overall, own).mean()),
            "adaptation_flops": float(sum(flops for _, flops in tested)),
        }

    def _adapted(
        self, federation: Federation, number: int, parameters: torch.Tensor, clients: list[int]
    ) -> tuple[Floats, int]:
        """Accuracies of these clients' copies, NaN where one diverged, and the operations they took."""
        config, ones = federation.config, numpy.ones(len(clients))
        training = tuple(federation.split.client(client).train for client in clients)
        round_ = Round(number, config.lr, numpy.array(clients), training, ones, ones, parameters)
        hold = Hold(federation.all_counts, federation.all_units)
        segment = self.optimiser(federation, round_)
        jobs = cross_entropy()(federation, round_, (hold,) * len(clients)).jobs
        plan = Plan(tuple(replace(job, segments=(segment,)) for job in jobs))
        batches = cohort(
            config.seed, number, round_.clients, training,
            epochs=self.epochs, batch=config.batch, draw=(self.purpose, 0),
        )  # fmt: skip
        result = federation.executor.train(parameters, plan, batches)
        test = [federation.split.client(client).test for client in clients]
        accuracies = federation.executor.evaluate(result.submodels, test, "test").accuracies()
        within = replace(federation, config=config.model_copy(update={"epochs": self.epochs}))
        flops = sum(cost.flops_executed for cost in Accounting()(within, round_, plan))
        return numpy.where(result.diverged, numpy.nan, accuracies), flops


def looking_ahead(objective: Objective, alpha: float, delta: float | None) -> Objective:
    """Each step takes the gradient on the next batch, where a step of rate alpha on this one leads to.

    delta: also corrects it by the change of the gradient with that step, estimated on the batch after at this distance
    to both sides; None: not.
    """
    passes = [Pass(weight=0), Pass(batch=1, at=((0, -alpha),))]
    if delta is not None:
        sides = ((delta, -1), (-delta, 1))
        passes += [Pass(batch=2, at=((1, step),), weight=sign * alpha / (2 * delta)) for step, sign in sides]

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        inner = objective(federation, round_, holds)
        jobs = tuple(
            replace(job, segments=tuple(replace(segment, passes=tuple(passes)) for segment in job.segments))
            for job in inner.jobs
        )
        return replace(inner, jobs=jobs)

    return plan


def _chunks(federation: Federation) -> list[list[int]]:
    """All clients in groups whose models fit into memory together, were each as large as the global one."""
    most = MODELS_BYTES // (federation.program.size * federation.dtype.itemsize)
    size, clients = max(1, min(MODELS, most)), federation.config.clients
    return [list(range(first, min(first + size, clients))) for first in range(0, clients, size)]
