"""The definition of training and evaluation: full width, 0/1 gates on the units, automatic differentiation.

Slow and plain on purpose. Every other executor is tested against it. One thread.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import nn

from fedlps.engine.cohort import Cohort, Indices
from fedlps.engine.one_thread import one_thread
from fedlps.engine.plan import Plan
from fedlps.engine.result import Evaluation, LocalResult, Part, Samples, Submodels
from fedlps.engine.training import Outputs, Training
from fedlps.flow import NORMS
from fedlps.program import Layer, Program


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
        for child in self.module.modules():
            if isinstance(child, NORMS):
                vars(child)["forward"] = functools.partial(_norm, child)
        self.buffers = dict(self.module.named_buffers())
        names = [name for name, _ in self.module.named_parameters(remove_duplicate=False)]
        self.tied = len(names) > len(program.parameters)  # looking for tied parameters costs as much as a small layer
        self.samples = samples
        self.dtype = dtype
        self.evaluation_batch = evaluation_batch
        self._gates: torch.Tensor | None = None
        self._scale: tuple[float, ...] | None = None
        for layer in program.layers:
            if layer.row_group >= 0:
                # in this order: a layer without norm is scaled and gated at the same place
                self.module.get_submodule(layer.name).register_forward_hook(self._scaler(layer))
                self.module.get_submodule(layer.gate).register_forward_hook(self._gate(layer))

    def train(self, global_parameters: torch.Tensor, plan: Plan, cohort: Cohort) -> LocalResult:
        """Run the plan's jobs one after the other. global_parameters: (P,) in the executor's dtype."""
        with one_thread(), torch.random.fork_rng(devices=[]):
            trainings = [
                Training(
                    self,
                    job,
                    global_parameters,
                    list(cohort.batches(job.client)),
                    int(cohort.epoch_steps[job.client]),
                    plan.probes,
                )
                for job in plan.jobs
            ]
            self.module.train()
            for training in trainings:
                torch.default_generator.manual_seed(int(cohort.seeds[training.job.client]))
                training.run()
            return self._collect(plan, trainings)

    def evaluate(self, models: Submodels, samples: list[Indices], part: Part) -> Evaluation:
        """Run every model on its own samples, in batches of `evaluation_batch` consecutive ones."""
        hits, losses = [], numpy.zeros(len(models))
        self.module.eval()
        with one_thread(), torch.random.fork_rng(devices=[]), torch.no_grad():
            for model, own in enumerate(samples):
                torch.default_generator.manual_seed(0)
                entries = self.layout.entries(models.kept[model], models.counts[model])
                parameters = torch.zeros(self.program.size, dtype=self.dtype)
                parameters[entries] = models.parameters[model, : len(entries)].to(self.dtype)
                correct = [numpy.zeros(0, dtype=numpy.bool_)]
                for start in range(0, len(own), self.evaluation_batch):
                    inputs, labels = self.batch(own[start : start + self.evaluation_batch], part)
                    # a model with exits answers with the mean of their logits
                    outputs = torch.stack(self.forward(parameters, inputs)).mean(0)
                    losses[model] += float(nn.functional.cross_entropy(outputs, labels, reduction="sum"))
                    correct.append((outputs.argmax(1) == labels).numpy())
                hits.append(numpy.concatenate(correct))
        return Evaluation(hits, losses)

    def batch(self, indices: Indices, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of the sample store as tensors."""
        inputs, labels = self.samples.batch(indices, part)
        return torch.from_numpy(inputs), torch.from_numpy(labels)

    def forward(
        self,
        parameters: torch.Tensor,
        inputs: torch.Tensor,
        gates: torch.Tensor | None = None,
        scale: tuple[float, ...] | None = None,
    ) -> Outputs:
        """The module's outputs, one per exit, at flat parameters (P,).

        gates: (U,), what its units are multiplied by. scale: per group, what the outputs of its layers are multiplied
        by.
        """
        pieces = torch.split(parameters, [parameter.size for parameter in self.program.parameters])
        named = {
            parameter.name: piece.view(parameter.shape)
            for parameter, piece in zip(self.program.parameters, pieces, strict=True)
        }
        named.update((name, buffer.clone()) for name, buffer in self.buffers.items())
        self._gates, self._scale = gates, scale
        outputs = torch.func.functional_call(self.module, named, (inputs,), tie_weights=self.tied)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _scaler(self, layer: Layer) -> Callable[[nn.Module, Any, torch.Tensor], torch.Tensor]:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            return output if self._scale is None else output * self._scale[layer.row_group]

        return hook

    def _gate(self, layer: Layer) -> Callable[[nn.Module, Any, torch.Tensor], torch.Tensor]:
        first = int(self.layout.groups[layer.row_group])

        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            if self._gates is None:
                return output
            gate = self._gates[first : first + layer.rows]
            return output * gate.view(-1, *(1,) * (output.dim() - 2))

        return hook

    def _collect(self, plan: Plan, trainings: list[Training]) -> LocalResult:
        compact = [training.parameters[training.entries] for training in trainings]
        capacity = max(map(len, compact), default=0)
        parameters = torch.zeros((len(trainings), capacity), dtype=self.dtype)
        for row, values in zip(parameters, compact, strict=True):
            row[: len(values)] = values
        probes: dict[str, list[Any]] = {
            "kept": [training.kept_by_step for training in trainings],
            "losses": [training.losses for training in trainings],
            "parameters": [training.parameters for training in trainings],
            "mask": [training.held for training in trainings],
            "gradients": [training.gradients for training in trainings],
            "squared_losses": [training.squared_losses for training in trainings],
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


def _norm(child: nn.BatchNorm1d | nn.BatchNorm2d, inputs: torch.Tensor) -> torch.Tensor:
    """What the module itself does, but of a single value too, where torch refuses: the unit outputs its shift."""
    return torch.batch_norm(inputs, child.weight, child.bias, None, None, True, 0.0, child.eps, False)
