"""The compact loop: the same PyTorch on small tensors, gathered again only when the selection changes.

Which units a client starts with is known before, so its first weights are gathered when the loop is made; a round
begins with a copy of them.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from bench.rounds.case import Case, Trained
from bench.rounds.flat import arranged, bind, padded, rates, smallest
from fedlps.engine.plan import Job, Learned


class Compact:
    """Trains the clients of a case one after the other, each at its own width; without learned units a plain loop.

    layouts: per job, how its convolutions' weights and its samples lie. None: NCHW.
    """

    def __init__(self, case: Case, layouts: Sequence[torch.memory_format] | None = None) -> None:
        self.case = case
        self.module = copy.deepcopy(case.module).to(case.parameters.dtype)
        self.edges = case.layout.groups.tolist()
        self.thinned = [layer for layer in case.program.layers if layer.row_group >= 0]
        self.gradient = torch.zeros_like(case.parameters)
        self.layouts = layouts or [torch.contiguous_format] * len(case.plan.jobs)
        self.starts = [
            _Small(self, job, layout, case.parameters, smallest(_redundancy(case, job), job.hold.counts, self.edges))
            for job, layout in zip(case.plan.jobs, self.layouts, strict=True)
        ]

    def train(self) -> list[Trained]:
        """Every client's round, from the received parameters."""
        return [
            Trained(client.small.widened(), client.redundancy, client.loss, client.changes) for client in self.clients()
        ]

    def clients(self) -> Iterator["_Client"]:
        """One client after the other behind its last step, still gathered."""
        for job, start in zip(self.case.plan.jobs, self.starts, strict=True):
            yield self._client(job, start)

    def _client(self, job: Job, small: "_Small") -> "_Client":
        case, (segment,), learned = self.case, job.segments, isinstance(job.hold.units, Learned)
        redundancy = _redundancy(case, job)
        strength = job.hold.units.strength if isinstance(job.hold.units, Learned) else 0.0
        moves = rates(case.program, segment.lr, strength, redundancy.dtype)
        decay = segment.weight_decay + sum(pull.coefficient for pull in job.pulls)
        small.begin()
        losses, changes = [], 0
        for batch in case.batches(job.client):
            inputs = case.inputs[batch].contiguous(memory_format=small.layout)
            loss = nn.functional.cross_entropy(self.module(inputs), case.labels[batch])
            loss.backward()
            with torch.no_grad():
                if learned:  # reads the parameters of before the update
                    redundancy.lerp_(torch.sigmoid(small.sums().neg_()), moves)
                for reference, coefficient in small.pulls:
                    small.gradient.sub_(reference, alpha=coefficient)
                small.gradient.add_(small.flat, alpha=decay)
                small.flat.sub_(small.gradient, alpha=segment.lr)
                small.gradient.zero_()
            losses.append(loss.detach())
            if not learned:
                continue
            chosen = smallest(redundancy, job.hold.counts, self.edges)
            if not torch.equal(chosen, small.kept):
                small, changes = _Small(self, job, small.layout, small.widened(), chosen), changes + 1
        return _Client(small, redundancy, float(torch.stack(losses).mean()), changes)


@dataclass(frozen=True)
class _Client:
    """One client after its round, its parameters gathered for its last selection."""

    small: "_Small"
    redundancy: torch.Tensor
    loss: float
    changes: int


class _Small:
    """The gathered tensors of a client while its selection stands."""

    def __init__(
        self, loop: Compact, job: Job, layout: torch.memory_format, full: torch.Tensor, kept: torch.Tensor
    ) -> None:
        """full: (P,), what the others than the kept units stay at."""
        self.loop, self.counts, self.layout, self.full, self.kept = loop, job.hold.counts, layout, full, kept
        entries = self._entries()
        self.start = full[entries]
        self.gradient = loop.gradient[: len(entries)]
        self.pulls = [
            (self.start if pull.reference is full else pull.reference[entries], pull.coefficient) for pull in job.pulls
        ]
        everything = torch.cat(
            [
                full[layer.weight : layer.weight + layer.rows * layer.fan_in].view(layer.rows, -1).abs().sum(1)
                for layer in loop.thinned
            ]
        )
        self.begin()
        # what lies outside the gathered entries stands still
        self.outside = everything.index_add_(0, kept, self._inside(), alpha=-1)

    def begin(self) -> None:
        """Binds the loop's module to a copy of the gathered entries."""
        self.flat = self.start.clone()
        module = self.loop.module
        bind(module, self.loop.case.program, self.counts, self.flat, self.gradient, self.layout)
        self.weights = [module.get_submodule(layer.name).weight.detach() for layer in self.loop.thinned]

    def widened(self) -> torch.Tensor:
        """The parameters at full width, (P,)."""
        return self.full.index_put((self._entries(),), self.flat)

    def sums(self) -> torch.Tensor:
        """Absolute weights per unit, kept or not: (U,)."""
        return self.outside.index_add(0, self.kept, self._inside())

    def _inside(self) -> torch.Tensor:
        return torch.cat([weight.abs().sum(tuple(range(1, weight.dim()))) for weight in self.weights])

    def _entries(self) -> torch.Tensor:
        """Made when needed: they take twice the room of the entries themselves."""
        loop, counts = self.loop, self.counts
        compact = loop.case.layout.entries(padded(self.kept, counts, loop.edges), torch.tensor(counts))
        return arranged(compact, loop.module, loop.case.program, counts, self.layout)


def _redundancy(case: Case, job: Job) -> torch.Tensor:
    """Before the first step, (U,): zeros where nothing is learned."""
    units = job.hold.units
    return units.redundancy.clone() if isinstance(units, Learned) else case.parameters.new_zeros(case.program.units)
