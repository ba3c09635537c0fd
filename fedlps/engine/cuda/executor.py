"""The executor: a cohort goes to the device once, is trained there without a stop, and is read once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy
import torch

from fedlps.engine.cohort import Cohort, Indices
from fedlps.engine.cuda import capacity
from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.capacity import Setting
from fedlps.engine.cuda.evaluation import evaluate
from fedlps.engine.cuda.graphs import Graphs
from fedlps.engine.cuda.images import ImageStore
from fedlps.engine.cuda.jobs import counts_of, shared_pulls
from fedlps.engine.cuda.launches import Launches, Precision
from fedlps.engine.cuda.network import network, why_not
from fedlps.engine.cuda.numbers import Numbers, alike
from fedlps.engine.cuda.outcome import Outcome, join
from fedlps.engine.cuda.propagation import Surroundings
from fedlps.engine.cuda.round import Round
from fedlps.engine.cuda.serving import launches_for
from fedlps.engine.cuda.terms import segment_of
from fedlps.engine.cuda.terms import why_not as why_not_plan
from fedlps.engine.one_thread import one_thread
from fedlps.engine.passes import check_passes
from fedlps.engine.plan import Job, Plan
from fedlps.engine.result import Evaluation, LocalResult, Part, Samples, Submodels
from fedlps.errors import InputError
from fedlps.program import Program

SHARE = 0.9  # of the device's free memory that `memory=auto` takes
BATCH = 256  # samples of a model evaluated at once, where that is free


class CudaExecutor:
    """Runs the plans that `terms.why_not` has nothing against, as `reference` defines them.

    device: on another than a GPU definitions take the kernels' place. precision: of the products' operands. batch: the
    largest that will come; kernels split their sums by it, so that a client's bits do not depend on others' batches.
    memory: bytes that a cohort may take; one that takes more is trained in consecutive parts, with the same bits; None:
    nearly all that is free. Raises ValueError for a program that `network.why_not` has something against.
    """

    name = "cuda"

    def __init__(
        self,
        program: Program,
        samples: Samples,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cuda",
        precision: Precision = "fp32",
        batch: int = 1,
        evaluation_batch: int = 200,
        memory: int | None = None,
        launches: Launches | None = None,
    ) -> None:
        obstacle = why_not(program)
        if obstacle:
            raise ValueError(f"executor: the CUDA engine does not run here: {obstacle}")
        self.program, self.layout, self.network = program, program.layout(), network(program)
        self.device, self.dtype = torch.device(device), dtype
        self.store = torch.bfloat16 if precision == "bf16" else dtype
        self.batch, self.evaluation_batch, self.memory = batch, evaluation_batch, memory
        self.images = ImageStore(samples, program.input_shape, dtype, self.device)
        self.buffers = Buffers(self.device)
        self.graphs = Graphs(self.buffers)
        products, self.weights = launches or launches_for(self.layout, precision, dtype, self.buffers)
        self._whole = torch.tensor([program.counts(1)], dtype=torch.int64).reshape(1, -1)
        self._lists: dict[tuple[int, bool], int] = {}
        self._rooms: dict[tuple[int, Setting], tuple[int, dict[str, int]]] = {}
        self.around = Surroundings(self.network, self.layout, products, self.buffers)

    def train(self, global_parameters: torch.Tensor, plan: Plan, cohort: Cohort) -> LocalResult:
        """Run the plan's jobs. global_parameters: (P,).

        ValueError, one line, for a term that is not carried; InputError, naming `memory`, where a job does not fit.
        """
        obstacle = why_not_plan(plan)
        if obstacle:
            raise ValueError(f"plan: the CUDA engine does not carry {obstacle}")
        batches = [_batches(cohort, job) for job in plan.jobs]
        for job, steps in zip(plan.jobs, map(len, batches), strict=True):
            check_passes(self.program, job, segment_of(job), steps)
        images, rows = self.images.of([one for own in batches for one in own], "train")
        placed = [[rows(one) for one in own] for own in batches]
        outcomes, order = [], []
        with self._within_memory():
            for group in alike(plan.jobs):
                setting = self.setting(plan, group, placed)
                every = counts_of([plan.jobs[place] for place in group], len(self.program.groups))
                for part in self._parts(every, setting):
                    jobs, own = [plan.jobs[place] for place in group[part]], [placed[place] for place in group[part]]
                    room = self._room(len(jobs), setting)
                    round_ = Round(self.around, self.weights, setting, jobs, global_parameters, images, own, room)
                    self.graphs.run(round_.step, max(map(len, own)), round_.key)
                    outcomes.append(Outcome.of(round_, plan))
                order += group
        result = join(outcomes, [plan.jobs[place] for place in order], plan, self.program, self.dtype)
        return result if order == sorted(order) else result[numpy.argsort(order).tolist()]

    def evaluate(self, models: Submodels, samples: list[Indices], part: Part) -> Evaluation:
        """Run every model on its own samples; one with norms in batches of `evaluation_batch` consecutive ones."""
        images, rows = self.images.of(samples, part)
        placed = [rows(own) for own in samples]
        batch = self.evaluation_batch if self.program.batch_statistics else BATCH
        setting = Setting(batch, 1, self.dtype, self.store, trains=False, transposed=False)
        hits, losses = [], [numpy.zeros(0)]
        with self._within_memory():
            for piece in self._parts(models.counts.to("cpu", torch.int64), setting):
                room = self._room(piece.stop - piece.start, setting)
                found = evaluate(self.around, self.weights, setting, models[piece], images, placed[piece], room)
                hits.extend(found.hits)
                losses.append(found.losses)
        return Evaluation(hits, numpy.concatenate(losses))

    def setting(self, plan: Plan, group: list[int], batches: list[list[Indices]]) -> Setting:
        """What jobs that share their numbers ask for beside counts; as much of the whole plan, as parts are alike."""
        jobs = [plan.jobs[place] for place in group]
        steps = max([1, *map(len, batches)])
        return Setting(
            batch=max([self.batch, *(len(one) for own in batches for one in own)]),
            steps=1 << (steps - 1).bit_length(),  # so that rounds of nearly as many steps replay the same graph
            dtype=self.dtype,
            store=self.store,
            transposed=self.store != torch.bfloat16,
            numbers=Numbers.of(jobs[0]),
            shared_pulls=shared_pulls(jobs),
            scaled=any(job.scale is not None for job in jobs),
            history="kept" in plan.probes,
        )

    def budget(self) -> int | None:
        """Bytes that a cohort may take; None: no bound is known."""
        if self.memory is not None or self.device.type != "cuda":
            return self.memory
        free, _ = torch.cuda.mem_get_info(self.device)
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int(SHARE * (free + cached + self.buffers.bytes))

    def _parts(self, counts: torch.Tensor, setting: Setting) -> list[slice]:
        """Each has the vectors that clients share once, which `client_bytes` counts for the first."""
        shared = sum(setting.shared_pulls) * self.layout.parameters * setting.dtype.itemsize
        each = self._bytes(counts, setting)
        each[:1] -= shared
        return capacity.parts(each, self.budget(), shared)

    def _bytes(self, counts: torch.Tensor, setting: Setting) -> torch.Tensor:
        """(C,), what each client takes. Lists for launches are counted as those of the whole model."""
        key = setting.batch, setting.trains
        if key not in self._lists:
            self._lists[key] = self.around.products.bytes(self.network, self._whole, *key)
        return capacity.client_bytes(self.network, self.layout, counts, setting) + self._lists[key]

    def _room(self, clients: int, setting: Setting) -> dict[str, int]:
        """Entries of the buffers that serve any counts, if the budget has room for them; else nothing to spare."""
        key = clients, setting
        if key not in self._rooms:
            whole = self._whole.expand(clients, -1)
            entries = capacity.needs(self.network, self.layout, whole, setting)
            room = {name: int(need.entries.sum()) for name, need in entries.items()}
            self._rooms = {key: (int(self._bytes(whole, setting).sum()), room)}
        bytes_, room = self._rooms[key]
        budget = self.budget()
        return {} if budget is None or bytes_ > budget else room

    @contextmanager
    def _within_memory(self) -> Iterator[None]:
        # definitions are many small calls, to which a second thread is no help
        with one_thread() if self.device.type == "cpu" else nullcontext():
            try:
                yield
            except torch.cuda.OutOfMemoryError:
                budget = self.budget()
                self.graphs.forget()
                self.buffers.release()
                raise InputError(f"memory: got {budget} bytes, for which the GPU has no room; allowed: less") from None


def _batches(cohort: Cohort, job: Job) -> list[Indices]:
    """Those of the job's steps."""
    return list(cohort.batches(job.client))[: segment_of(job).steps]
