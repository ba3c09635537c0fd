"""One job of the reference executor while it runs: the definition of a local round (specification, section 4)."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from fedlps.engine.cohort import Indices
from fedlps.engine.plan import Job, Learned, Pass, Probe, Segment
from fedlps_kernels.importance_step.definition import importance_step
from fedlps_kernels.select_units.definition import select_units
from fedlps_kernels.unit_abs_sum.definition import unit_abs_sum

if TYPE_CHECKING:
    from fedlps.engine.reference import ReferenceExecutor

Outputs = tuple[torch.Tensor, ...]


class Training:
    """Full-width parameters, redundancies, and the entries that train at the current step.

    batches: of all epochs; epoch: how many of them an epoch has.
    """

    def __init__(
        self,
        executor: ReferenceExecutor,
        job: Job,
        global_parameters: torch.Tensor,
        batches: list[Indices],
        epoch: int,
        probes: frozenset[Probe],
    ) -> None:
        self.executor = executor
        self.layout = executor.layout
        self.job = job
        self.batches = batches
        self.epoch = epoch
        self.probes = probes
        self.parameters = (global_parameters if job.start is None else job.start).detach()
        self.counts = torch.tensor([job.hold.counts], dtype=torch.int32).reshape(1, -1)
        self.held = torch.ones_like(self.parameters, dtype=torch.bool) if job.hold.mask is None else job.hold.mask
        self.trains: torch.Tensor | None = None
        self.losses: list[float] = []
        self.squared_losses: list[float] = []
        self.kept_by_step: list[torch.Tensor] = []
        self.gradients = torch.zeros_like(self.parameters) if "gradients" in probes else None
        self.hits = self.seen = 0
        self.diverged = False
        units = job.hold.units
        self.learned = units if isinstance(units, Learned) else None
        self.redundancy = torch.zeros_like(self.parameters[: executor.program.units])
        if isinstance(units, Learned):
            self.redundancy = units.redundancy.to(executor.dtype).clone()
            self._keep(self._smallest())
        else:
            self._keep(units)

    def run(self) -> None:
        """All segments; stops at the first step after which something is not finite."""
        done = 0
        velocity = torch.zeros_like(self.parameters)
        for segment in self.job.segments:
            if not segment.carry_velocity:
                velocity = torch.zeros_like(self.parameters)
            self.trains = segment.trains
            self._keep(self.kept)
            last = len(self.batches) if segment.steps is None else min(done + segment.steps, len(self.batches))
            for step in range(done, last):
                self._step(segment, velocity, step, step - done)
                if self.diverged:
                    return
            if segment.after is not None:
                gradient = self._task_gradient(self.batches[done]) if segment.after_gradient else None
                self.parameters, self.held = segment.after(self.parameters, self.held, gradient)
                self._keep(self.kept)
            done = last

    def _step(self, segment: Segment, velocity: torch.Tensor, step: int, position: int) -> None:
        """position: of the step within its segment. velocity is updated in place."""
        touched, gradient, unit_gradient = self._passes(segment, step, position)
        self.kept_by_step.append(self.kept)
        # the importance reads the parameters of before the update
        sums = unit_abs_sum(self.parameters[None], self.layout)[0] if self.learned else None
        self._update(segment, velocity, touched, gradient)
        if self.learned is not None and sums is not None:
            self.redundancy = importance_step(
                self.redundancy[None], sums[None], unit_gradient[None], self.layout.groups,
                lr=segment.lr, lam=self.learned.strength, kappa=self.learned.kappa, reduction=self.learned.reduction,
            )[0]  # fmt: skip
        finite = _finite(self.parameters) and _finite(self.redundancy)
        self.diverged = not (finite and math.isfinite(self.losses[-1]))
        if self.learned is not None and not self.diverged and not torch.equal(kept := self._smallest(), self.kept):
            self._keep(kept)

    def _passes(self, segment: Segment, step: int, position: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The entries that the step touches (n,), the step's gradient of them (n,), that of the units' gates (U,)."""
        unit_gradient = torch.zeros_like(self.redundancy)
        done: list[_Ran | None] = []
        for one in segment.passes:
            width = None if one.widths is None else one.widths[position]
            if one.widths is not None and width is None:
                done.append(None)
                continue
            trained, gates = (self.trained, self.gates) if width is None else self._leading(width)
            weights = self.parameters
            for number, coefficient in one.at:
                earlier = _ran(done, number)
                weights = weights.index_add(0, earlier.trained, earlier.gradient, alpha=coefficient)
            inputs, labels = self.executor.batch(self.batches[self._batch(step, one)], "train")
            targets = labels if one.teacher is None else _ran(done, one.teacher).outputs[-1].softmax(1)
            gradient, units, outputs, loss = self._backward(weights, gates, inputs, targets)
            done.append(_Ran(trained, gradient.index_select(0, trained), one.weight, outputs))
            unit_gradient = unit_gradient + units
            if len(self.losses) == step:
                self._record(outputs, labels, loss)
            if self.gradients is not None:
                self.gradients += one.weight * gradient
        return *self._sum([ran for ran in done if ran is not None]), unit_gradient

    def _sum(self, passes: list[_Ran]) -> tuple[torch.Tensor, torch.Tensor]:
        """The entries of all passes and the weighted sum of their gradients."""
        if not passes:
            return self.trained, self.parameters.new_zeros(len(self.trained))
        first, *others = passes
        if all(other.trained is first.trained for other in others):
            return first.trained, functools.reduce(torch.add, [ran.weight * ran.gradient for ran in passes])
        total = torch.zeros_like(self.parameters)
        for ran in passes:
            total.index_add_(0, ran.trained, ran.gradient, alpha=ran.weight)
        touched = torch.unique(torch.cat([ran.trained for ran in passes]))
        return touched, total.index_select(0, touched)

    def _backward(
        self, weights: torch.Tensor, gates: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, Outputs, float]:
        """Gradients of the task loss to all entries (P,) and to kept units' gates (U,); detached outputs; the loss."""
        weights = weights.detach().requires_grad_(True)
        straight_through = self.learned is not None and self.learned.kappa != 0 and len(self.redundancy) > 0
        gates = gates.clone().requires_grad_(straight_through)
        outputs = self.executor.forward(weights, inputs, gates, self.job.scale)[: self.job.hold.depth]
        loss = self._loss(outputs, targets)
        wanted = [weights, gates] if straight_through else [weights]
        gradient, *unit_gradient = torch.autograd.grad(loss, wanted)
        units = unit_gradient[0] * self.gates if straight_through else torch.zeros_like(self.redundancy)
        return gradient, units, tuple(output.detach() for output in outputs), float(loss.detach())

    def _loss(self, outputs: Outputs, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross entropy, summed over the exits, and what exits learn from each other."""
        loss = sum((nn.functional.cross_entropy(output, targets) for output in outputs), torch.zeros(()))
        if self.job.mutual == 0 or len(outputs) == 1:
            return loss
        log = [output.log_softmax(1) for output in outputs]
        for own in range(len(outputs)):
            for other in range(len(outputs)):
                if other != own:
                    divergence = nn.functional.kl_div(
                        log[own], log[other].detach(), reduction="batchmean", log_target=True
                    )
                    loss = loss + self.job.mutual / (len(outputs) - 1) * divergence
        return loss

    def _record(self, outputs: Outputs, labels: torch.Tensor, loss: float) -> None:
        self.losses.append(loss)
        self.hits += int((outputs[-1].argmax(1) == labels).sum())
        self.seen += len(labels)
        if "squared_losses" in self.probes:
            each = nn.functional.cross_entropy(outputs[-1], labels, reduction="none").to(torch.float64)
            self.squared_losses.append(float((each**2).sum()))

    def _update(self, segment: Segment, velocity: torch.Tensor, touched: torch.Tensor, gradient: torch.Tensor) -> None:
        """Section 4, step 3, on the entries that the step touches."""
        parameters = self.parameters.index_select(0, touched)
        for pull in self.job.pulls:
            gradient = gradient + pull.coefficient * (parameters - pull.reference.index_select(0, touched))
        if self.job.penalty:
            gradient = gradient + self.job.penalty * self._unit_directions().index_select(0, touched)
        if segment.clip > 0:
            gradient = gradient * min(1.0, segment.clip / (float(gradient.norm()) + 1e-6))
        gradient = gradient + segment.weight_decay * parameters
        if segment.momentum:
            gradient = segment.momentum * velocity.index_select(0, touched) + gradient
            velocity.index_copy_(0, touched, gradient)
        self.parameters = self.parameters.index_copy(0, touched, parameters - segment.lr * gradient)

    def _unit_directions(self) -> torch.Tensor:
        """The gradient of the summed norms of the thinned layers' units, over the entries that train: (P,)."""
        directions = torch.zeros_like(self.parameters)
        weights = torch.zeros_like(self.parameters)
        weights[self.trained] = self.parameters[self.trained]
        for layer in self.executor.program.layers:
            if layer.row_group < 0:
                continue
            place = slice(layer.weight, layer.weight + layer.rows * layer.fan_in)
            rows = weights[place].view(layer.rows, layer.fan_in)
            if layer.bias is not None:
                rows = torch.cat([rows, weights[layer.bias : layer.bias + layer.rows, None]], dim=1)
            unit = nn.functional.normalize(rows, dim=1, eps=1e-30)
            directions[place] = unit[:, : layer.fan_in].flatten()
            if layer.bias is not None:
                directions[layer.bias : layer.bias + layer.rows] = unit[:, -1]
        return directions

    def _task_gradient(self, indices: Indices) -> torch.Tensor:
        """The task gradient of all entries on one batch, (P,)."""
        inputs, labels = self.executor.batch(indices, "train")
        return self._backward(self.parameters, self.gates, inputs, labels)[0]

    def _batch(self, step: int, one: Pass) -> int:
        """The number of a pass's batch: counted within the epoch of its step."""
        first = step - step % self.epoch
        length = min(self.epoch, len(self.batches) - first)
        return first + (step - first + one.batch) % length

    def _smallest(self) -> torch.Tensor:
        """The units of the smallest redundancies: the pattern of the next step."""
        return select_units(-self.redundancy[None], self.counts, self.layout.groups)[0]

    def _keep(self, kept: torch.Tensor) -> None:
        """Keep these units from now on: their entries, their gates, and of the entries those that train."""
        self.kept = kept
        self.entries = self.layout.entries(kept, self.counts[0])
        self.gates = self._gates(kept)
        self.trained = self._trains(self.entries)

    def _leading(self, counts: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """The entries that train and the gates (U,) of a submodel of the leading units."""
        groups = zip(self.executor.program.groups, counts, strict=True)
        kept = [torch.where((numbers := torch.arange(group.units)) < count, numbers, -1) for group, count in groups]
        units = torch.cat([torch.empty(0, dtype=torch.int64), *kept])
        return self._trains(self.layout.entries(units, torch.tensor(counts))), self._gates(units)

    def _trains(self, entries: torch.Tensor) -> torch.Tensor:
        """Of these entries those that are held and train, ascending."""
        mask = torch.zeros(self.layout.parameters, dtype=torch.bool)
        mask[entries] = True
        mask &= self.held
        return (mask if self.trains is None else mask & self.trains).nonzero()[:, 0]

    def _gates(self, kept: torch.Tensor) -> torch.Tensor:
        gates = torch.zeros_like(self.redundancy)
        for first, group in zip(self.layout.groups.tolist(), self.executor.program.groups, strict=False):
            units = kept[first : first + group.units]
            gates[first + units[units >= 0].long()] = 1
        return gates


@dataclass(frozen=True)
class _Ran:
    """A pass that a step took: the entries it trains (n,), their gradient (n,), and what it counts."""

    trained: torch.Tensor
    gradient: torch.Tensor
    weight: float
    outputs: Outputs


def _ran(done: list[_Ran | None], number: int) -> _Ran:
    earlier = done[number]
    if earlier is None:
        raise ValueError(f"pass {number}: is left out at this step, but a later pass refers to it")
    return earlier


def _finite(values: torch.Tensor) -> bool:
    """Whether no entry is infinite or NaN; much faster than looking at each."""
    return values.numel() == 0 or all(math.isfinite(extreme) for extreme in values.aminmax())
