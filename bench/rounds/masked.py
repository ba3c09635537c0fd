"""The dense-masked loop: full-width modules, 0/1 gates on the units, automatic differentiation, in-place SGD."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn

from bench.rounds.case import Case, Trained
from bench.rounds.flat import bind, rates, smallest
from fedlps.engine.plan import Job, Learned


class Masked:
    """Trains and evaluates the clients of a case one after the other, at full width."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.module = copy.deepcopy(case.module).to(case.parameters.dtype)
        self.flat = case.parameters.clone()
        self.everything = tuple(group.units for group in case.program.groups)
        self.gradient = torch.zeros_like(self.flat)
        bind(self.module, case.program, self.everything, self.flat, self.gradient)
        self.edges = case.layout.groups.tolist()
        self.gates = torch.ones_like(self.flat[: case.program.units])
        self.mask = torch.ones_like(self.flat)
        self.thinned = [layer for layer in case.program.layers if layer.row_group >= 0]
        self.weights = [self.module.get_submodule(layer.name).weight for layer in self.thinned]
        self.steps = self._gated_steps()

    def train(self) -> list[Trained]:
        """Every client's round, from the received parameters."""
        return [replace(own, parameters=own.parameters.clone()) for own in self.clients()]

    def clients(self) -> Iterator[Trained]:
        """One client after the other behind its last step; its parameters are the loop's own, until the next."""
        return map(self._client, self.case.plan.jobs)

    def evaluate(
        self, parameters: torch.Tensor, gates: torch.Tensor, samples: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Hits and summed losses of each model on its samples, one batch each: (M,) both.

        parameters: (M, P), full width. gates: (M, U).
        """
        hits, losses = [], []
        with torch.inference_mode():
            for own, gate, indices in zip(parameters, gates, samples, strict=True):
                self.flat.copy_(own)
                self.gates.copy_(gate)
                outputs, labels = self._forward(self.case.inputs[indices]), self.case.labels[indices]
                hits.append((outputs.argmax(1) == labels).sum())
                losses.append(nn.functional.cross_entropy(outputs, labels, reduction="sum"))
        return torch.stack(hits), torch.stack(losses)

    def _client(self, job: Job) -> Trained:
        case, learned, (segment,) = self.case, job.hold.units, job.segments
        assert isinstance(learned, Learned)
        redundancy = learned.redundancy.clone()
        moves = rates(case.program, segment.lr, learned.strength, self.flat.dtype)
        kept = smallest(redundancy, job.hold.counts, self.edges)
        self._keep(kept)
        losses, changes = [], 0
        self.flat.copy_(case.parameters)
        decay = segment.weight_decay + sum(pull.coefficient for pull in job.pulls)
        for batch in case.batches(job.client):
            loss = nn.functional.cross_entropy(self._forward(case.inputs[batch]), case.labels[batch])
            loss.backward()
            with torch.no_grad():
                # the importance reads the parameters of before the update
                sums = torch.cat([weight.abs().flatten(1).sum(1) for weight in self.weights])
                redundancy.lerp_(torch.sigmoid(sums.neg_()), moves)
                for pull in job.pulls:
                    self.gradient.sub_(pull.reference, alpha=pull.coefficient)
                self.gradient.add_(self.flat, alpha=decay)
                self.flat.addcmul_(self.gradient, self.mask, value=-segment.lr)
                self.gradient.zero_()
            losses.append(loss.detach())
            chosen = smallest(redundancy, job.hold.counts, self.edges)
            if not torch.equal(chosen, kept):
                kept, changes = chosen, changes + 1
                self._keep(kept)
        return Trained(self.flat, redundancy, float(torch.stack(losses).mean()), changes)

    def _keep(self, kept: torch.Tensor) -> None:
        """Gates these units, and masks their entries."""
        self.gates.zero_()[kept] = 1
        for layer in self.case.program.layers:
            rows, columns = self._gate(layer.row_group, layer.rows), self._gate(layer.column_group, layer.columns)
            place = slice(layer.weight, layer.weight + layer.rows * layer.fan_in)
            self.mask[place].view(layer.rows, layer.columns, -1).copy_((rows[:, None] * columns)[:, :, None])
            for vector in (layer.bias, layer.scale, layer.shift):
                if vector is not None:
                    self.mask[vector : vector + layer.rows] = rows

    def _gate(self, group: int, units: int) -> torch.Tensor:
        """A view of the gates of a group; ones where all units are kept, always."""
        return self.gates.new_ones(units) if group < 0 else self.gates[self.edges[group] : self.edges[group + 1]]

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        for step, gate in self.steps:
            x = step(x) if gate is None else step(x) * gate
        return x

    def _gated_steps(self) -> list[tuple[nn.Module, torch.Tensor | None]]:
        """The steps, each with the gate of its outputs.

        A layer is gated behind its norm, pooling and ReLU, where the outputs are fewest; the gradients are the same.
        """
        steps: list[tuple[nn.Module, torch.Tensor | None]] = []
        gate: torch.Tensor | None = None
        groups = {layer.name: layer.row_group for layer in self.thinned}
        for name, step in self.module.named_children():
            if gate is not None and isinstance(step, nn.Conv2d | nn.Linear | nn.Flatten):
                steps[-1] = (steps[-1][0], gate)
                gate = None
            if name in groups:
                own = self._gate(groups[name], len(step.weight))
                gate = own[:, None, None] if isinstance(step, nn.Conv2d) else own
            steps.append((step, None))
        return steps
