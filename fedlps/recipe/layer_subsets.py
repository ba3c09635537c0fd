"""Clients that each contribute some layers: those they receive whole, the others pruned, and a head of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy
import torch
from torch import nn

from fedlps.cost import VALUE_BYTES
from fedlps.engine.plan import Hold, Job, Pass, Plan
from fedlps.errors import InputError
from fedlps.program import Program, initial_parameters
from fedlps.randomness import stream
from fedlps.recipe import capability, download
from fedlps.recipe.capable import leading_units, on_leading_units
from fedlps.recipe.evaluation import ComposedModels
from fedlps.recipe.federation import Federation, Outcome, Round
from fedlps.recipe.layer_entries import entries_of
from fedlps.recipe.objective import Objective

HEAD = "head"  # the client's part of the store: entries of its output layer
MOST = 4  # groups of layers


@dataclass(frozen=True)
class LayerSubsets:
    """What the clients receive, hold and send.

    groups: consecutive groups of hidden layers that a client contributes, from its own group on. share: of the largest
    weights that are left of the layers it does not contribute. own_head: the output layer stays its own, though it
    sends it. sliced: it holds the leading units that its device is worth.
    """

    groups: int
    share: float
    own_head: bool
    sliced: bool

    def holds(self, federation: Federation, round_: Round) -> tuple[Hold, ...]:
        """Units of each client; pruned weights stay 0 for the round."""
        units = download.pattern_units("first") if self.sliced else download.dense()
        return tuple(
            replace(hold, mask=self._unpruned(federation, round_, int(client)))
            for hold, client in zip(units(federation, round_), round_.clients, strict=True)
        )

    def start(self, federation: Federation, round_: Round, position: int) -> torch.Tensor:
        """The received parameters (P,) without the pruned, with the client's own head."""
        client = int(round_.clients[position])
        received = torch.where(self._unpruned(federation, round_, client), round_.global_parameters, 0)
        return self._with_head(federation, client, received)

    def travels(self, federation: Federation, outcome: Outcome, position: int) -> torch.Tensor:
        """(P,) bool: the layers that a client contributes, and the head."""
        return self._contributed(federation, int(outcome.round.clients[position]))

    def weight(self, federation: Federation, outcome: Outcome, position: int) -> float:
        """How many layers a client contributes, the head among them."""
        client, clients = int(outcome.round.clients[position]), federation.config.clients
        return len(contributed(federation.program, client, clients, self.groups))

    def remember(self, federation: Federation, outcome: Outcome) -> None:
        """Keep the heads of the clients that count; what they do not hold of it stays as it was."""
        mask, models = _head(federation.program), outcome.result.submodels
        for position in numpy.flatnonzero(outcome.counted).tolist():
            entries = federation.layout.entries(models.kept[position], models.counts[position])
            trained = self.start(federation, outcome.round, position).clone()
            trained[entries] = models.parameters[position, : len(entries)]
            client = int(outcome.round.clients[position])
            federation.store.put_client(client, HEAD, {"parameters": trained[mask].numpy()})

    def test(self, federation: Federation, number: int, global_parameters: torch.Tensor) -> dict[str, float]:
        """test_global and test_last; the latter with each client's submodel."""
        return ComposedModels(self.composed).test(federation, number, global_parameters)

    def composed(self, federation: Federation, client: int, parameters: torch.Tensor, number: int) -> torch.Tensor:
        """The client's submodel of the global parameters (P,) with its own head, 0 elsewhere; all of them before it has
        trained a head.
        """
        if self.own_head and federation.store.get_client(client, HEAD) is None:
            return parameters
        own = self._with_head(federation, client, parameters)
        if not self.sliced:
            return own
        speed = float(capability.speeds(federation.config, number)[client])
        return on_leading_units(federation, own, speed)

    def up(self, federation: Federation, round_: Round, position: int, job: Job) -> int:
        """Bytes of the held entries that travel."""
        entries = federation.layout.entries(leading_units(federation, job.hold.counts), torch.tensor(job.hold.counts))
        sent = self._contributed(federation, int(round_.clients[position]))
        return VALUE_BYTES * int(sent[entries].sum())

    def down(self, federation: Federation, round_: Round, position: int, job: Job) -> int:
        """Bytes of whole layers and of what is left of the pruned ones."""
        return VALUE_BYTES * int(self._unpruned(federation, round_, int(round_.clients[position])).sum())

    def _contributed(self, federation: Federation, client: int) -> torch.Tensor:
        program = federation.program
        numbers = contributed(program, client, federation.config.clients, self.groups)
        return entries_of(program, [program.layers[number] for number in numbers])

    def _unpruned(self, federation: Federation, round_: Round, client: int) -> torch.Tensor:
        numbers = contributed(federation.program, client, federation.config.clients, self.groups)
        mask = torch.ones(federation.program.size, dtype=torch.bool)
        for number, layer in enumerate(federation.program.layers):
            if number not in numbers:
                place = slice(layer.weight, layer.weight + layer.rows * layer.fan_in)
                mask[place] = largest(round_.global_parameters[place].abs(), self.share)
        return mask

    def _with_head(self, federation: Federation, client: int, parameters: torch.Tensor) -> torch.Tensor:
        if not self.own_head:
            return parameters
        mask, stored = _head(federation.program), federation.store.get_client(client, HEAD)
        own = parameters.clone()
        if stored is None:
            initial = torch.from_numpy(initial_parameters(federation.program, federation.config.seed))
            own[mask] = initial.to(own.dtype)[mask]
        else:
            own[mask] = torch.from_numpy(stored["parameters"])
        return own


def contributed(program: Program, client: int, clients: int, groups: int) -> tuple[int, ...]:
    """The numbers of the layers that a client contributes: of its groups, and the output layer."""
    hidden = numpy.array_split(numpy.arange(len(program.layers) - 1), min(MOST, len(program.layers) - 1))
    chosen = group_numbers(client, clients, len(hidden), groups)
    return (*sorted(int(number) for group in chosen for number in hidden[group]), len(program.layers) - 1)


def group_numbers(client: int, clients: int, available: int, groups: int) -> tuple[int, ...]:
    """Of the groups of layers: the client's own, by its number, and those that follow, around the end."""
    first = available * client // clients
    return tuple((first + step) % available for step in range(min(groups, available)))


def largest(magnitudes: torch.Tensor, share: float) -> torch.Tensor:
    """(n,) bool, the share of them that is largest, at least one; ties to the lower index."""
    count = max(1, math.floor(share * len(magnitudes) + 1e-9))
    mask = torch.zeros(len(magnitudes), dtype=torch.bool)
    mask[magnitudes.argsort(descending=True, stable=True)[:count]] = True
    return mask


def with_random_widths(inner: Objective, purpose: int) -> Objective:
    """Every step trains the leading units of a width drawn from (half the client's ratio, the client's ratio].

    purpose: of the stream; its first id is 0.
    """

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        jobs = []
        for job in (given := inner(federation, round_, holds)).jobs:
            steps = federation.config.epochs * -(-len(round_.training[job.client]) // federation.config.batch)
            ratio = float(round_.ratios[job.client])
            rng = stream(federation.config.seed, purpose, 0, round_.number, int(round_.clients[job.client]))
            widths = tuple(federation.program.counts(own) for own in ratio - rng.random(steps) * ratio / 2)
            (segment,) = job.segments
            jobs.append(replace(job, segments=(replace(segment, passes=(Pass(widths=widths),)),)))
        return replace(given, jobs=tuple(jobs))

    return plan


def needs_hidden(module: nn.Module, program: Program) -> nn.Module:
    """The model as it is. InputError if it has an output layer only."""
    if len(program.layers) < 2:
        raise InputError("model: got one layer, but clients contribute hidden layers; expected one at least")
    return module


def _head(program: Program) -> torch.Tensor:
    return entries_of(program, program.layers[-1:])
