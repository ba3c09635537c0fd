"""One job of the reference executor while it runs: the definition of a local round (specification, section 4)."""

from __future__ import annotations

import math
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
        gradient, touched, unit_gradient = self._passes(segment, step, position)
        self.kept_by_step.append(self.kept)
        # the importance reads the parameters of before the update
        sums = unit_abs_sum(self.parameters[None], self.layout)[0] if self.learned else None
        self._update(segment, velocity, gradient, touched)
        if self.learned is not None and sums is not None:
            self.redundancy = importance_step(
                self.redundancy[None], sums[None], unit_gradient[None], self.layout.groups,
                lr=segment.lr, lam=self.learned.strength, kappa=self.learned.kappa, reduction=self.learned.reduction,
            )[0]  # fmt: skip
        finite = bool(torch.isfinite(self.parameters).all()) and bool(torch.isfinite(self.redundancy).all())
        self.diverged = not (finite and math.isfinite(self.losses[-1]))
        if self.learned is not None and not self.diverged and not torch.equal(kept := self._smallest(), self.kept):
            self._keep(kept)

    def _passes(self, segment: Segment, step: int, position: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The step's gradient (P,), the entries that it touches (P,) and the task gradient of the units (U,)."""
        total = torch.zeros_like(self.parameters)
        touched: torch.Tensor | None = None
        unit_gradient = torch.zeros_like(self.redundancy)
        done: list[tuple[torch.Tensor, Outputs] | None] = []
        for one in segment.passes:
            width = None if one.widths is None else one.widths[position]
            if one.widths is not None and width is None:
                done.append(None)
                continue
            mask, gates = (self.mask, self.gates) if width is None else self._leading(width)
            weights = self.parameters
            for earlier, coefficient in one.at:
                weights = weights + coefficient * _ran(done, earlier)[0]
            inputs, labels = self.executor.batch(self.batches[self._batch(step, one)], "train")
            targets = labels if one.teacher is None else _ran(done, one.teacher)[1][-1].softmax(1)
            gradient, units, outputs, loss = self._backward(weights, gates, inputs, targets)
            done.append((torch.where(mask, gradient, 0), outputs))
            total = total + one.weight * torch.where(mask, gradient, 0)
            touched = mask if touched is None else touched | mask
            unit_gradient = unit_gradient + units
            if len(self.losses) == step:
                self._record(outputs, labels, loss)
            if self.gradients is not None:
                self.gradients += one.weight * gradient
        return total, self.mask if touched is None else touched, unit_gradient

    def _backward(
        self, weights: torch.Tensor, gates: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, Outputs, float]:
        """Gradients of the task loss to all entries (P,) and to kept units' gates (U,); detached outputs; the loss."""
        weights = weights.detach().requires_grad_(True)
        straight_through = self.learned is not None and self.learned.kappa != 0
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

    def _update(self, segment: Segment, velocity: torch.Tensor, gradient: torch.Tensor, touched: torch.Tensor) -> None:
        """Section 4, step 3, on the entries that the step touches."""
        for pull in self.job.pulls:
            gradient = gradient + pull.coefficient * (self.parameters - pull.reference)
        if self.job.penalty:
            gradient = gradient + self.job.penalty * self._unit_directions()
        gradient = torch.where(touched, gradient, 0)
        if segment.clip > 0:
            gradient = gradient * min(1.0, segment.clip / (float(gradient.norm()) + 1e-6))
        gradient = gradient + segment.weight_decay * self.parameters
        if segment.momentum:
            gradient = segment.momentum * velocity + gradient
            velocity[touched] = gradient[touched]
        self.parameters = torch.where(touched, self.parameters - segment.lr * gradient, self.parameters)

    def _unit_directions(self) -> torch.Tensor:
        """The gradient of the summed norms of the thinned layers' units, over the entries that train: (P,)."""
        directions = torch.zeros_like(self.parameters)
        weights = torch.where(self.mask, self.parameters, 0)
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
        self.mask = self._trained(self.entries)

    def _leading(self, counts: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask (P,) and gates (U,) of a submodel of the leading units."""
        groups = zip(self.executor.program.groups, counts, strict=True)
        kept = [torch.where((numbers := torch.arange(group.units)) < count, numbers, -1) for group, count in groups]
        units = torch.cat([torch.empty(0, dtype=torch.int64), *kept])
        return self._trained(self.layout.entries(units, torch.tensor(counts))), self._gates(units)

    def _trained(self, entries: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(self.layout.parameters, dtype=torch.bool)
        mask[entries] = True
        mask &= self.held
        return mask if self.trains is None else mask & self.trains

    def _gates(self, kept: torch.Tensor) -> torch.Tensor:
        gates = torch.zeros_like(self.redundancy)
        for first, group in zip(self.layout.groups.tolist(), self.executor.program.groups, strict=False):
            units = kept[first : first + group.units]
            gates[first + units[units >= 0].long()] = 1
        return gates


def _ran(done: list[tuple[torch.Tensor, Outputs] | None], number: int) -> tuple[torch.Tensor, Outputs]:
    earlier = done[number]
    if earlier is None:
        raise ValueError(f"pass {number}: is left out at this step, but a later pass refers to it")
    return earlier
