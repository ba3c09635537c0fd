"""What a participation costs: operations of the plan's jobs, bytes, seconds (specification, section 7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy
import torch

from fedlps.cost import (
    VALUE_BYTES,
    LocalCost,
    local_seconds,
    paper_flops,
    pattern_bytes,
    row_weights,
    submodel_entries,
    submodel_weights,
    training_flops,
)
from fedlps.engine.plan import Job, Learned, Plan, Segment
from fedlps.program import Program
from fedlps.recipe.federation import Federation, Round

Bytes = Callable[[Federation, Round, int, Job], int]
"""Bytes of the client at a position of the cohort, with its uploading job, or its only one."""

Weights = Callable[[Federation, Round, Job, int], tuple[int, ...]]
"""Weights per layer by the paper's count of a job during its segment of a number."""

Extra = Callable[[Federation, Round, int], int]
"""Executed operations of the client at a position of the cohort beside its steps."""


def whole_model(federation: Federation, round_: Round, position: int, job: Job) -> int:
    """All P values."""
    return whole_bytes(federation.program)


def whole_bytes(program: Program) -> int:
    """Bytes of all P values."""
    return VALUE_BYTES * program.size


def dense_seconds(federation: Federation, samples: int, speed: float) -> float:
    """Seconds of a round of the whole model for a client of so many samples and this capability."""
    program, config = federation.program, federation.config
    counted = paper_flops(program, row_weights(program, federation.all_counts))
    seen = config.batch * config.epochs * -(-samples // config.batch)
    return local_seconds(3 * counted * seen, whole_bytes(program), speed, federation.rates)


def no_bytes(federation: Federation, round_: Round, position: int, job: Job) -> int:
    """Nothing travels."""
    return 0


def with_scalar(federation: Federation, round_: Round, position: int, job: Job) -> int:
    """All P values and one more."""
    return whole_bytes(federation.program) + VALUE_BYTES


def held_rows(federation: Federation, round_: Round, job: Job, segment: int) -> tuple[int, ...]:
    """Weights of the held units' rows, whatever the mask."""
    return row_weights(federation.program, job.hold.counts)


def held_entries(pattern_sent: bool = False) -> Bytes:
    """The values of the held units that are in the mask; pattern_sent: one bit more per thinned unit."""

    def count(federation: Federation, round_: Round, position: int, job: Job) -> int:
        pattern = pattern_bytes(federation.program) if pattern_sent else 0
        mask, units = job.hold.mask, job.hold.units
        if mask is None or isinstance(units, Learned):
            return VALUE_BYTES * submodel_entries(federation.program, job.hold.counts) + pattern
        entries = federation.layout.entries(units, torch.tensor(job.hold.counts))
        return VALUE_BYTES * int(mask[entries].sum()) + pattern

    return count


@dataclass(frozen=True)
class Accounting:
    """Counts the plan's jobs. up, down: bytes of a client's upload and download. passes: of a step, by the paper's
    count; None: those that run at the job's own width. weights: None: those that the job holds. besides: None: nothing.
    """

    up: Bytes = field(default_factory=held_entries)
    down: Bytes = whole_model
    passes: int | None = None
    weights: Weights | None = None
    besides: Extra | None = None

    def __call__(self, federation: Federation, round_: Round, plan: Plan) -> tuple[LocalCost, ...]:
        """The cost of each client, in cohort order."""
        return tuple(self._client(federation, round_, plan, position) for position in range(len(round_.clients)))

    def _client(self, federation: Federation, round_: Round, plan: Plan, position: int) -> LocalCost:
        jobs = [job for job in plan.jobs if job.client == position]
        paper, executed = 0, self.besides(federation, round_, position) if self.besides else 0
        for job in jobs:
            samples = step_samples(federation, round_, job)
            own = paper_weights(federation.program, job)
            for number, (segment, first, last) in enumerate(spans(job, len(samples))):
                held = self.weights(federation, round_, job, number) if self.weights else own
                counted = max(1, sum(one.widths is None for one in segment.passes))
                passes = counted if self.passes is None else self.passes
                paper += 3 * passes * paper_flops(federation.program, held) * (last - first) * federation.config.batch
                executed += _executed(federation.program, job, segment, samples[first:last])
        upload = next((job for job in jobs if job.destination == "upload"), jobs[0])
        up = self.up(federation, round_, position, upload)
        down = self.down(federation, round_, position, upload)
        seconds = local_seconds(paper, up, float(round_.capabilities[position]), federation.rates)
        return LocalCost(paper, executed, up, down, seconds)


def paper_weights(program: Program, job: Job) -> tuple[int, ...]:
    """Weights per layer by the paper's count: kept rows of all columns, and of those the entries of the mask."""
    mask, units = job.hold.mask, job.hold.units
    if mask is None or isinstance(units, Learned):
        return row_weights(program, job.hold.counts)
    edges = numpy.cumsum([0, *(group.units for group in program.groups)]).tolist()
    counted = []
    for layer in program.layers:
        rows = mask[layer.weight : layer.weight + layer.rows * layer.fan_in].view(layer.rows, layer.fan_in)
        if layer.row_group >= 0:
            first = edges[layer.row_group]
            rows = rows[units[first : first + job.hold.counts[layer.row_group]].long()]
        counted.append(int(rows.sum()))
    return tuple(counted)


def step_samples(federation: Federation, round_: Round, job: Job) -> list[int]:
    """How many samples each step of a job sees; the paper counts them all as a whole batch."""
    config, own = federation.config, len(round_.training[job.client])
    return [min(own - first, config.batch) for first in range(0, own, config.batch)] * config.epochs


def spans(job: Job, steps: int) -> list[tuple[Segment, int, int]]:
    """Each segment with its first and last step."""
    spans, done = [], 0
    for segment in job.segments:
        last = steps if segment.steps is None else min(done + segment.steps, steps)
        spans.append((segment, done, last))
        done = last
    return spans


def _executed(program: Program, job: Job, segment: Segment, samples: list[int]) -> int:
    """Operations on real samples of a segment's steps, all passes. Elementwise masks save nothing; absent layers do."""
    present = [_any(job.hold.mask, layer.weight, layer.rows * layer.fan_in) for layer in program.layers]
    trained = [
        there and _any(segment.trains, layer.weight, layer.rows * layer.fan_in)
        for layer, there in zip(program.layers, present, strict=True)
    ]
    seen: Counter[tuple[int, ...]] = Counter()  # samples by the widths that they pass through
    for one in segment.passes:
        for step, length in enumerate(samples):
            counts = job.hold.counts if one.widths is None else one.widths[step]
            if counts is not None:
                seen[counts] += length
    total = 0
    for counts, length in seen.items():
        weights = submodel_weights(program, counts)
        inside = [weight if there else 0 for weight, there in zip(weights, present, strict=True)]
        total += length * training_flops(program, inside, trained)
    if segment.after_gradient:
        everything = submodel_weights(program, job.hold.counts)
        total += samples[0] * training_flops(program, everything, [True] * len(everything))
    return total


def _any(mask: torch.Tensor | None, offset: int, size: int) -> bool:
    return mask is None or bool(mask[offset : offset + size].any())
