"""Other counts of operations than the two of every run; metrics that add up over its rounds."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import torch

from fedlps.cost import kept_rows, submodel_weights, training_flops
from fedlps.engine.plan import Job
from fedlps.recipe.accounting import Weights, paper_weights, spans, step_samples
from fedlps.recipe.federation import Federation, Outcome, Round
from fedlps.recipe.method import Measure

Count = Callable[[Federation, Round, Job], int]


def summed(name: str, count: Count) -> Measure:
    """The count of all jobs of all rounds so far, as a metric of this name."""

    def measure(federation: Federation, outcome: Outcome, parameters: torch.Tensor) -> dict[str, float]:
        earlier = federation.store.get_tensor(name)
        total = sum(count(federation, outcome.round, job) for job in outcome.plan.jobs)
        total += 0 if earlier is None else int(earlier[0])
        federation.store.put_tensor(name, numpy.array([total], dtype=numpy.int64))
        return {name: float(total)}

    return measure


def rows_and_columns() -> Measure:
    """flops_rows_columns: as flops_paper, but of the rows and columns that are really held, and their biases."""

    def count(federation: Federation, round_: Round, job: Job) -> int:
        program, config, counts = federation.program, federation.config, job.hold.counts
        forward = sum(
            layer.positions * (2 * weights + (kept_rows(layer, counts) if layer.bias is not None else 0))
            for layer, weights in zip(program.layers, submodel_weights(program, counts), strict=True)
        )
        steps = len(step_samples(federation, round_, job))
        return 3 * forward * steps * config.batch

    return summed("flops_rows_columns", count)


def sparse_kernels(
    weights: Weights = lambda federation, round_, job, segment: paper_weights(federation.program, job),
) -> Measure:
    """flops_sparse: as flops_executed, of the steps only, if kernels multiplied nothing outside the masks."""

    def count(federation: Federation, round_: Round, job: Job) -> int:
        samples, total = step_samples(federation, round_, job), 0
        for number, (_, first, last) in enumerate(spans(job, len(samples))):
            held = weights(federation, round_, job, number)
            total += sum(samples[first:last]) * training_flops(federation.program, held, [True] * len(held))
        return total

    return summed("flops_sparse", count)


def pulling() -> Measure:
    """flops_elementwise: three operations per parameter, step and pull."""

    def count(federation: Federation, round_: Round, job: Job) -> int:
        return 3 * federation.program.size * len(step_samples(federation, round_, job)) * len(job.pulls)

    return summed("flops_elementwise", count)
