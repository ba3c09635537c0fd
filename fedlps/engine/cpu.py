"""The native executor: one call trains a cohort's segment, a client per thread, on its gathered submodel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import numpy
import torch

from fedlps.engine.cohort import Cohort, Indices
from fedlps.engine.native_job import NativeJob
from fedlps.engine.native_program import native_program
from fedlps.engine.native_samples import native_samples
from fedlps.engine.plan import Hold, Job, Learned, Plan, Probe, Segment
from fedlps.engine.result import Evaluation, LocalResult, Part, Samples, Submodels
from fedlps.program import Program
from fedlps_kernels import native, select_units, untouched


class CpuExecutor:
    """Runs any plan on any chain, as `reference` defines it; same bits for any number of threads and any grouping.

    threads: how many clients at once; None: torch's own setting. Raises ValueError where the native module is missing
    or does not carry the program (`why_not`).
    """

    name = "cpu"

    def __init__(
        self,
        program: Program,
        samples: Samples,
        *,
        dtype: torch.dtype = torch.float32,
        threads: int | None = None,
        evaluation_batch: int = 200,
    ) -> None:
        obstacle = why_not(program)
        if obstacle:
            raise ValueError(f"executor: the CPU engine does not run here: {obstacle}")
        self.program = program
        self.layout = program.layout()
        self.samples = samples
        self.dtype = dtype
        self.threads = threads
        self.evaluation_batch = evaluation_batch
        self.native = native_program(program, self.layout)

    def train(self, global_parameters: torch.Tensor, plan: Plan, cohort: Cohort) -> LocalResult:
        """Run the plan's jobs, segment by segment. global_parameters: (P,) in the executor's dtype.

        ValueError, one line, for a term that the engine does not carry.
        """
        check_terms(plan)
        batches = [list(cohort.batches(job.client)) for job in plan.jobs]
        used = [indices for client in batches for indices in client]
        source, places = native_samples(self.samples, used, "train", self.dtype)
        jobs = []
        for planned, own, kept in zip(plan.jobs, batches, self._first_units(plan), strict=True):
            epoch = int(cohort.epoch_steps[planned.client])
            jobs.append(
                NativeJob(self.program, self.layout, planned, global_parameters, own, epoch, plan.probes, places, kept)
            )
        for number in range(max((len(job.segments) for job in plan.jobs), default=0)):
            running = [job for job in jobs if job.enter(number)]
            if running:
                self._module().local_round(
                    self.native, source, [job.arguments() for job in running], _name(self.dtype), self._threads()
                )
            for job in running:
                job.leave()
        return self._collect(plan, jobs)

    def evaluate(self, models: Submodels, samples: list[Indices], part: Part) -> Evaluation:
        """Run every model on its own samples; one with norms in batches of `evaluation_batch` consecutive ones."""
        source, places = native_samples(self.samples, samples, part, self.dtype)
        indices = numpy.concatenate([numpy.zeros(0, dtype=numpy.int64), *map(places, samples)])
        last = numpy.cumsum([0, *map(len, samples)], dtype=numpy.int64)
        batch = self.evaluation_batch if self.program.batch_statistics else BATCH
        # a model's samples in pieces, so that a single one keeps all threads busy; for any number of threads the same
        piece = -(-PIECE // batch) * batch
        pieces = [(row, first) for row, own in enumerate(samples) for first in range(0, max(len(own), 1), piece)]
        rows = numpy.array([row for row, _ in pieces], dtype=numpy.int64)
        edges = numpy.array([*(last[row] + first for row, first in pieces), last[-1]])
        one = models.one
        parameters = (models.parameters[:1] if one else models.parameters).to(self.dtype).contiguous()
        counts = models.counts.to(torch.int32).contiguous()
        hits, losses = numpy.zeros(len(indices), dtype=numpy.uint8), numpy.zeros(len(pieces))
        if pieces:
            self._module().evaluate(
                *(self.native, source, *native.arrays(counts, parameters)),
                *map(native.numpy_array, (numpy.zeros_like(rows) if one else rows, indices, edges, hits, losses)),
                *(batch, _name(self.dtype), self._threads()),
            )
        hit = numpy.split(hits.astype(numpy.bool_), last[1:-1])[: len(models)]
        sums = numpy.zeros(len(models))
        numpy.add.at(sums, rows, losses)
        return Evaluation(hit, sums)

    def _module(self) -> Any:
        return native.module()

    def _threads(self) -> int:
        return native.threads() if self.threads is None else self.threads

    def _first_units(self, plan: Plan) -> list[torch.Tensor]:
        """The units that each job begins with, (U,) int32; those that are learned selected in one call."""
        held = [job.hold.units for job in plan.jobs]
        rows = [units.redundancy.to(self.dtype) for units in held if isinstance(units, Learned)]
        counts = [job.hold.counts for job in plan.jobs if isinstance(job.hold.units, Learned)]
        if not rows:
            return [units.to(torch.int32) for units in held if isinstance(units, torch.Tensor)]
        learned = iter(select_units(-torch.stack(rows), torch.tensor(counts, dtype=torch.int32), self.layout.groups))
        return [next(learned) if isinstance(units, Learned) else units.to(torch.int32) for units in held]

    def _collect(self, plan: Plan, jobs: list[NativeJob]) -> LocalResult:
        kept = _rows([job.kept for job in jobs], self.program.units, torch.int32)
        counts = _rows([job.counts for job in jobs], len(self.program.groups), torch.int32)
        sizes = self.layout.compact_sizes(counts).tolist()
        compact = untouched.zeros(len(jobs), max(sizes, default=0), self.dtype)
        for row, job, size in zip(compact, jobs, sizes, strict=True):
            row[:size] = job.submodel()
        probes: dict[str, list[Any]] = {name: [job.probe(name) for job in jobs] for name in plan.probes}
        return LocalResult(
            submodels=Submodels(kept, counts, compact),
            redundancy=_rows([job.redundancy for job in jobs], self.program.units, self.dtype),
            losses=numpy.array([job.mean_loss for job in jobs]),
            hits=numpy.array([job.hits for job in jobs], dtype=numpy.int64),
            seen=numpy.array([job.seen for job in jobs], dtype=numpy.int64),
            diverged=numpy.array([job.diverged for job in jobs], dtype=numpy.bool_),
            probes=probes,
        )


def why_not(program: Program) -> str:
    """Why the CPU engine cannot run a program here; empty if it can."""
    if program.obstacle is not None:
        return f"the model is no chain, {program.obstacle}"
    convolutions = [step for step in program.steps if step.kind == "conv"]
    largest = max((max(step.kernel, step.stride) for step in convolutions), default=1)
    if largest > MAX_SIDE:
        return f"the model has a kernel or stride of {largest}, it carries {MAX_SIDE} at most"
    return native.why_not()


def check_terms(plan: Plan) -> None:
    """Raise ValueError for a term of a plan that the engine has never heard of."""
    for probe in sorted(plan.probes):
        if probe not in get_args(Probe):
            raise ValueError(f"plan: the CPU engine does not carry the probe {probe!r}")
    for job in plan.jobs:
        for term, allowed in ((job, Job), (job.hold, Hold), *((segment, Segment) for segment in job.segments)):
            if type(term) is not allowed:
                raise ValueError(f"plan: the CPU engine does not carry the term {type(term).__name__}")
        if not isinstance(job.hold.units, torch.Tensor | Learned):
            raise ValueError(f"plan: the CPU engine does not carry the units {type(job.hold.units).__name__}")


MAX_SIDE = 32  # csrc/cpu/tile.h
PIECE = 512  # samples of a model that are one thread's work, in whole batches
BATCH = 32  # samples evaluated at once, where that is free: more activations leave the second cache


def _rows(vectors: Iterable[torch.Tensor], width: int, dtype: torch.dtype) -> torch.Tensor:
    rows = [vector[None] for vector in vectors]
    return torch.cat([torch.zeros((0, width), dtype=dtype), *rows])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
