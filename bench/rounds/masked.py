"""The dense-masked loop: full-width modules, 0/1 gates on the units, automatic differentiation, in-place SGD."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from bench.rounds.case import Case, Trained
from bench.rounds.flat import bind, padded, rates, smallest
from fedlps.engine.plan import Hold, Job, Learned


class Masked:
    """Trains and evaluates the clients of a case one after the other, at full width."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.module = copy.deepcopy(case.module).to(case.parameters.dtype)
        self.flat = case.parameters.clone()
        self.everything = tuple(group.units for group in case.program.groups)
        self.gradient = bind(self.module, case.program, self.everything, self.flat)
        self.edges = case.layout.groups.tolist()
        self.gates = torch.ones_like(self.flat[: case.program.units])
        self.thinned = [layer for layer in case.program.layers if layer.row_group >= 0]
        self.weights = [self.module.get_submodule(layer.name).weight for layer in self.thinned]
        self.steps = self._gated_steps()

    def train(self) -> list[Trained]:
        """Every client's round, from the received parameters."""
        return [self._client(job) for job in self.case.plan.jobs]

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
        mask, losses, changes = self._keep(kept, job.hold), [], 0
        self.flat.copy_(case.parameters)
        for batch in case.batches(job.client):
            loss = nn.functional.cross_entropy(self._forward(case.inputs[batch]), case.labels[batch])
            loss.backward()
            with torch.no_grad():
                # the importance reads the parameters of before the update
                sums = torch.cat([weight.abs().flatten(1).sum(1) for weight in self.weights])
                redundancy.lerp_(torch.sigmoid(sums.neg_()), moves)
                for pull in job.pulls:
                    self.gradient.add_(self.flat - pull.reference, alpha=pull.coefficient)
                self.gradient.add_(self.flat, alpha=segment.weight_decay)
                self.flat.addcmul_(self.gradient, mask, value=-segment.lr)
                self.gradient.zero_()
            losses.append(loss.detach())
            chosen = smallest(redundancy, job.hold.counts, self.edges)
            if not torch.equal(chosen, kept):
                kept, changes = chosen, changes + 1
                mask = self._keep(kept, job.hold)
        return Trained(self.flat.clone(), redundancy, float(torch.stack(losses).mean()), changes)

    def _keep(self, kept: torch.Tensor, hold: Hold) -> torch.Tensor:
        """Gates these units; returns the mask of their entries, (P,)."""
        self.gates.zero_()[kept] = 1
        mask = torch.zeros_like(self.flat)
        mask[self.case.layout.entries(padded(kept, hold.counts, self.edges), torch.tensor(hold.counts))] = 1
        return mask

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        for step, gate in self.steps:
            x = step(x) if gate is None else step(x) * gate
        return x

    def _gated_steps(self) -> list[tuple[nn.Module, torch.Tensor | None]]:
        """The steps, each with the gate of its outputs.

        A layer is gated behind its pooling and ReLU, where the outputs are fewest; the gradients are the same.
        """
        steps: list[tuple[nn.Module, torch.Tensor | None]] = []
        gate: torch.Tensor | None = None
        groups = {layer.name: layer.row_group for layer in self.thinned}
        for name, step in self.module.named_children():
            if gate is not None and isinstance(step, nn.Conv2d | nn.Linear | nn.Flatten):
                steps[-1] = (steps[-1][0], gate)
                gate = None
            if name in groups:
                own = self.gates[self.edges[groups[name]] : self.edges[groups[name] + 1]]
                gate = own[:, None, None] if isinstance(step, nn.Conv2d) else own
            steps.append((step, None))
        return steps
