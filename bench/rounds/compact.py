"""The compact loop: the same PyTorch on small tensors, gathered again only when the selection changes."""

import copy

import torch
from torch import nn

from bench.rounds.case import Case, Trained
from bench.rounds.flat import bind, padded, rates, smallest
from fedlps.engine.plan import Hold, Job, Learned


class Compact:
    """Trains the clients of a case one after the other, each at its own width; without learned units a plain loop."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.module = copy.deepcopy(case.module).to(case.parameters.dtype)
        self.edges = case.layout.groups.tolist()
        self.thinned = [layer for layer in case.program.layers if layer.row_group >= 0]

    def train(self) -> list[Trained]:
        """Every client's round, from the received parameters."""
        return [self._client(job) for job in self.case.plan.jobs]

    def _client(self, job: Job) -> Trained:
        case, (segment,) = self.case, job.segments
        learned = job.hold.units if isinstance(job.hold.units, Learned) else None
        redundancy = case.parameters.new_zeros(case.program.units) if learned is None else learned.redundancy.clone()
        moves = rates(case.program, segment.lr, learned.strength if learned else 0.0, redundancy.dtype)
        full = case.parameters.clone()
        kept = smallest(redundancy, job.hold.counts, self.edges)
        small = _Small(self, full, kept, job)
        losses, changes = [], 0
        for batch in case.batches(job.client):
            loss = nn.functional.cross_entropy(self.module(case.inputs[batch]), case.labels[batch])
            loss.backward()
            with torch.no_grad():
                if learned is not None:  # reads the parameters of before the update
                    redundancy.lerp_(torch.sigmoid(small.sums().neg_()), moves)
                for reference, coefficient in small.pulls:
                    small.gradient.add_(small.flat - reference, alpha=coefficient)
                small.gradient.add_(small.flat, alpha=segment.weight_decay)
                small.flat.sub_(small.gradient, alpha=segment.lr)
                small.gradient.zero_()
            losses.append(loss.detach())
            if learned is None:
                continue
            chosen = smallest(redundancy, job.hold.counts, self.edges)
            if not torch.equal(chosen, kept):
                full[small.entries] = small.flat
                kept, changes = chosen, changes + 1
                small = _Small(self, full, kept, job)
        full[small.entries] = small.flat
        return Trained(full, redundancy, float(torch.stack(losses).mean()), changes)


class _Small:
    """The gathered tensors of a client while its selection stands, bound to the loop's module."""

    def __init__(self, loop: Compact, full: torch.Tensor, kept: torch.Tensor, job: Job) -> None:
        hold: Hold = job.hold
        self.kept = kept
        self.entries = loop.case.layout.entries(padded(kept, hold.counts, loop.edges), torch.tensor(hold.counts))
        self.flat = full[self.entries]
        self.pulls = [(pull.reference[self.entries], pull.coefficient) for pull in job.pulls]
        self.gradient = bind(loop.module, loop.case.program, hold.counts, self.flat)
        self.weights = [loop.module.get_submodule(layer.name).weight for layer in loop.thinned]
        everything = torch.cat(
            [
                full[layer.weight : layer.weight + layer.rows * layer.fan_in].view(layer.rows, -1).abs().sum(1)
                for layer in loop.thinned
            ]
        )
        # what lies outside the gathered entries stands still
        self.outside = everything.index_add_(0, kept, self._inside(), alpha=-1)

    def sums(self) -> torch.Tensor:
        """Absolute weights per unit, kept or not: (U,)."""
        return self.outside.index_add(0, self.kept, self._inside())

    def _inside(self) -> torch.Tensor:
        return torch.cat([weight.detach().abs().flatten(1).sum(1) for weight in self.weights])
