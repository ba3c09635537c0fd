"""The definition of training and evaluation: full width, 0/1 gates on the units, automatic differentiation.

Slow and plain on purpose. Every other executor is tested against it. One thread.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from torch import nn

from fedlps.engine.cohort import Cohort, Indices
from fedlps.engine.plan import Job, Learned, Plan, Segment
from fedlps.engine.result import Evaluation, LocalResult, Part, Samples, Submodels
from fedlps.program import Layer, Program
from fedlps_kernels.importance_step.definition import importance_step
from fedlps_kernels.select_units.definition import select_units
from fedlps_kernels.unit_abs_sum.definition import unit_abs_sum


class ReferenceExecutor:
    """Runs any plan on any module that `fedlps.trace.derive` accepts.

    It works on a copy of module, in the given dtype, whose buffers are the module's own at every call: nothing passes
    from one client to another, and the caller's module stays as it is. samples gives normalized batches.

    A module that draws numbers itself (dropout) draws them from torch's generator, seeded for every job with its
    client's seed in the cohort and for every evaluated model with 0; the caller's generator is left as it was.
    """

    name = "reference"

    def __init__(
        self,
        program: Program,
        module: nn.Module,
        samples: Samples,
        *,
        dtype: torch.dtype = torch.float32,
        evaluation_batch: int = 200,
    ) -> None:
        self.program = program
        self.layout = program.layout()
        self.module = copy.deepcopy(module).to(dtype)
        self.buffers = dict(self.module.named_buffers())
        names = [name for name, _ in self.module.named_parameters(remove_duplicate=False)]
        self.tied = len(names) > len(program.parameters)  # looking for tied parameters costs as much as a small layer
        self.samples = samples
        self.dtype = dtype
        self.evaluation_batch = evaluation_batch
        self._gates: torch.Tensor | None = None
        for layer in program.layers:
            if layer.row_group >= 0:
                self.module.get_submodule(layer.gate).register_forward_hook(self._gate(layer))

    def train(self, global_parameters: torch.Tensor, plan: Plan, cohort: Cohort) -> LocalResult:
        """Run the plan's jobs one after the other. global_parameters: (P,) in the executor's dtype."""
        with _one_thread(), torch.random.fork_rng(devices=[]):
            trainings = [_Training(self, job, global_parameters) for job in plan.jobs]
            for training in trainings:
                torch.default_generator.manual_seed(int(cohort.seeds[training.job.client]))
                training.run(list(cohort.batches(training.job.client)))
            return self._collect(plan, trainings)

    def evaluate(self, models: Submodels, samples: list[Indices], part: Part) -> Evaluation:
        """Run every model on its own samples, in batches of `evaluation_batch` consecutive ones."""
        hits, losses = [], numpy.zeros(len(models))
        self.module.eval()
        with _one_thread(), torch.random.fork_rng(devices=[]), torch.no_grad():
            for model, own in enumerate(samples):
                torch.default_generator.manual_seed(0)
                entries = self.layout.entries(models.kept[model], models.counts[model])
                parameters = torch.zeros(self.program.size, dtype=self.dtype)
                parameters[entries] = models.parameters[model, : len(entries)].to(self.dtype)
                correct = [numpy.zeros(0, dtype=numpy.bool_)]
                for start in range(0, len(own), self.evaluation_batch):
                    inputs, labels = self.batch(own[start : start + self.evaluation_batch], part)
                    outputs = self.forward(parameters, inputs, gates=None)
                    losses[model] += float(nn.functional.cross_entropy(outputs, labels, reduction="sum"))
                    correct.append((outputs.argmax(1) == labels).numpy())
                hits.append(numpy.concatenate(correct))
        return Evaluation(hits, losses)

    def batch(self, indices: Indices, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of the sample store as tensors."""
        inputs, labels = self.samples.batch(indices, part)
        return torch.from_numpy(inputs), torch.from_numpy(labels)

    def forward(self, parameters: torch.Tensor, inputs: torch.Tensor, gates: torch.Tensor | None) -> torch.Tensor:
        """The module's outputs at flat parameters (P,), its units multiplied by gates (U,) if there are any."""
        pieces = torch.split(parameters, [parameter.size for parameter in self.program.parameters])
        named = {
            parameter.name: piece.view(parameter.shape)
            for parameter, piece in zip(self.program.parameters, pieces, strict=True)
        }
        named.update((name, buffer.clone()) for name, buffer in self.buffers.items())
        self._gates = gates
        outputs: torch.Tensor = torch.func.functional_call(self.module, named, (inputs,), tie_weights=self.tied)
        return outputs

    def _gate(self, layer: Layer) -> Callable[[nn.Module, Any, torch.Tensor], torch.Tensor]:
        first = int(self.layout.groups[layer.row_group])

        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            if self._gates is None:
                return output
            gate = self._gates[first : first + layer.rows]
            return output * gate.view(-1, *(1,) * (output.dim() - 2))

        return hook

    def _collect(self, plan: Plan, trainings: list[_Training]) -> LocalResult:
        compact = [training.parameters[training.entries] for training in trainings]
        capacity = max(map(len, compact), default=0)
        parameters = torch.zeros((len(trainings), capacity), dtype=self.dtype)
        for row, values in zip(parameters, compact, strict=True):
            row[: len(values)] = values
        probes: dict[str, list[Any]] = {
            "kept": [training.kept_by_step for training in trainings],
            "losses": [training.losses for training in trainings],
            "parameters": [training.parameters for training in trainings],
        }
        jobs = len(trainings)
        units, groups = self.program.units, len(self.program.groups)
        return LocalResult(
            submodels=Submodels(
                torch.cat([torch.zeros(0, dtype=torch.int32), *(t.kept for t in trainings)]).view(jobs, units),
                torch.tensor([t.job.hold.counts for t in trainings], dtype=torch.int32).view(jobs, groups),
                parameters,
            ),
            redundancy=torch.cat([parameters.new_zeros(0), *(t.redundancy for t in trainings)]).view(jobs, units),
            losses=numpy.array([numpy.mean(t.losses) if t.losses else numpy.nan for t in trainings]),
            hits=numpy.array([t.hits for t in trainings], dtype=numpy.int64),
            seen=numpy.array([t.seen for t in trainings], dtype=numpy.int64),
            diverged=numpy.array([t.diverged for t in trainings], dtype=numpy.bool_),
            probes={name: probes[name] for name in plan.probes},
        )


class _Training:
    """One job while it runs: full-width parameters, redundancies, and the pattern of the current step."""

    def __init__(self, executor: ReferenceExecutor, job: Job, global_parameters: torch.Tensor) -> None:
        self.executor = executor
        self.job = job
        self.parameters = (global_parameters if job.start is None else job.start).detach()
        self.counts = torch.tensor([job.hold.counts], dtype=torch.int32).reshape(1, -1)
        units = job.hold.units
        self.learned = units if isinstance(units, Learned) else None
        self.redundancy = torch.zeros_like(self.parameters[: executor.program.units])
        self.losses: list[float] = []
        self.kept_by_step: list[torch.Tensor] = []
        self.hits = self.seen = 0
        self.diverged = False
        if isinstance(units, Learned):
            self.redundancy = units.redundancy.to(executor.dtype).clone()
            self._hold(self._smallest())
        else:
            self._hold(units)

    def run(self, batches: list[Indices]) -> None:
        """All segments; stops at the first step after which something is not finite."""
        self.executor.module.train()
        done = 0
        for segment in self.job.segments:
            velocity = torch.zeros_like(self.parameters)
            last = len(batches) if segment.steps is None else done + segment.steps
            for indices in batches[done:last]:
                self._step(segment, velocity, indices)
                if self.diverged:
                    return
            done = last

    def _step(self, segment: Segment, velocity: torch.Tensor, indices: Indices) -> None:
        inputs, labels = self.executor.batch(indices, "train")
        weights = self.parameters.requires_grad_(True)
        straight_through = self.learned is not None and self.learned.kappa != 0
        gates = self.gates.clone().requires_grad_(straight_through)
        outputs = self.executor.forward(weights, inputs, gates)
        loss = nn.functional.cross_entropy(outputs, labels)
        wanted = [weights, gates] if straight_through else [weights]
        gradient, *unit_gradient = torch.autograd.grad(loss, wanted)
        self.parameters = weights.detach()
        self.losses.append(float(loss.detach()))
        self.hits += int((outputs.argmax(1) == labels).sum())
        self.seen += len(labels)
        self.kept_by_step.append(self.kept)
        # the importance reads the parameters of before the update
        sums = unit_abs_sum(self.parameters[None], self.executor.layout)[0] if self.learned else None
        self._update(segment, velocity, gradient)
        if self.learned is not None and sums is not None:
            task = unit_gradient[0] * self.gates if straight_through else torch.zeros_like(sums)
            self.redundancy = importance_step(
                self.redundancy[None], sums[None], task[None], self.executor.layout.groups,
                lr=segment.lr, lam=self.learned.strength, kappa=self.learned.kappa, reduction=self.learned.reduction,
            )[0]  # fmt: skip
        finite = bool(torch.isfinite(self.parameters).all()) and bool(torch.isfinite(self.redundancy).all())
        self.diverged = not (finite and numpy.isfinite(self.losses[-1]))
        if self.learned is not None and not self.diverged and not torch.equal(kept := self._smallest(), self.kept):
            self._hold(kept)

    def _update(self, segment: Segment, velocity: torch.Tensor, gradient: torch.Tensor) -> None:
        """Section 4, step 3, on the kept entries. velocity is updated in place."""
        for pull in self.job.pulls:
            gradient = gradient + pull.coefficient * (self.parameters - pull.reference)
        gradient = torch.where(self.mask, gradient, 0)
        if segment.clip > 0:
            gradient = gradient * min(1.0, segment.clip / (float(gradient.norm()) + 1e-6))
        gradient = gradient + segment.weight_decay * self.parameters
        if segment.momentum:
            gradient = segment.momentum * velocity + gradient
            velocity[self.mask] = gradient[self.mask]
        self.parameters = torch.where(self.mask, self.parameters - segment.lr * gradient, self.parameters)

    def _smallest(self) -> torch.Tensor:
        """The units of the smallest redundancies: the pattern of the next step."""
        return select_units(-self.redundancy[None], self.counts, self.executor.layout.groups)[0]

    def _hold(self, kept: torch.Tensor) -> None:
        """Keep these units from now on: their gates, their entries and the mask of the entries."""
        self.kept = kept
        layout = self.executor.layout
        self.entries = layout.entries(kept, self.counts[0])
        self.mask = torch.zeros(layout.parameters, dtype=torch.bool)
        self.mask[self.entries] = True
        self.gates = torch.zeros_like(self.redundancy)
        for first, group in zip(layout.groups.tolist(), self.executor.program.groups, strict=False):
            units = kept[first : first + group.units]
            self.gates[first + units[units >= 0].long()] = 1


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums are split by thread, so one thread keeps the bits the same everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
