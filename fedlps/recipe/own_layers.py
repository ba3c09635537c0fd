"""Layers that stay with each client, while the server averages the others."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import numpy
import torch
from pydantic import Field
from torch import nn

from fedlps.cost import VALUE_BYTES
from fedlps.engine.plan import Hold, Job, Plan
from fedlps.errors import InputError
from fedlps.program import Program, initial_parameters
from fedlps.recipe.accounting import Accounting
from fedlps.recipe.evaluation import ComposedModels
from fedlps.recipe.federation import Federation, Outcome, Round
from fedlps.recipe.layer_entries import entries_of
from fedlps.recipe.objective import Objective
from fedlps.recipe.personal import full_width

PART = "layers"  # the client's part of the store that holds its own layers

Count = Annotated[
    int | None,
    Field(ge=0, description="how many of the last layers are a client's own; null: the linear ones behind the first"),
]


@dataclass(frozen=True)
class OwnLayers:
    """The last `count` layers of the model with their norms, kept by each client: where it starts, what it sends, what
    is tested. None: all linear layers if there are two or more, but not the first layer of the model; else the output
    layer and the last norm.
    """

    count: int | None

    def mask(self, program: Program) -> torch.Tensor:
        """(P,) bool, the entries of a client's own layers. Raises InputError if there are not as many layers."""
        layers = program.layers
        if self.count is not None and self.count > len(layers):
            raise InputError(
                f"method.layers: got {self.count}, but the model has {len(layers)}; allowed: 0 to {len(layers)}"
            )
        if self.count == len(layers):
            return torch.ones(program.size, dtype=torch.bool)
        if self.count is not None:
            return entries_of(program, layers[len(layers) - self.count :])
        # without its first layer, or a model of linear layers only would share nothing
        linear = [layer for layer in layers if layer.kind == "linear"]
        if len(linear) >= 2:
            return entries_of(program, (layer for layer in linear if layer is not layers[0]))
        mask = entries_of(program, layers[-1:])
        for layer in [layer for layer in layers if layer.scale is not None][-1:]:
            for offset in (layer.scale, layer.shift):
                if offset is not None:
                    mask[offset : offset + layer.rows] = True
        return mask

    def checked(self, module: nn.Module, program: Program) -> nn.Module:
        """The module. Raises InputError if it has not as many layers."""
        self.mask(program)
        return module

    def shared(self, federation: Federation, outcome: Outcome, position: int) -> torch.Tensor:
        """(P,) bool, what travels."""
        return ~self.mask(federation.program)

    def start(self, federation: Federation, round_: Round, position: int) -> torch.Tensor:
        """The received layers and the client's own, (P,)."""
        return self.composed(federation, int(round_.clients[position]), round_.global_parameters, round_.number)

    def composed(self, federation: Federation, client: int, parameters: torch.Tensor, number: int) -> torch.Tensor:
        """The global parameters (P,) with the client's own layers, the first time the initial ones."""
        own = parameters.clone()
        stored = federation.store.get_client(client, PART)
        mask = self.mask(federation.program)
        if stored is None:
            initial = initial_parameters(federation.program, federation.config.seed)
            own[mask] = torch.from_numpy(initial).to(own.dtype)[mask]
        else:
            own[mask] = torch.from_numpy(stored["parameters"]).to(own.dtype)
        return own

    def remember(self, federation: Federation, outcome: Outcome) -> None:
        """Keep the own layers of the clients that count."""
        mask = self.mask(federation.program)
        for position in numpy.flatnonzero(outcome.counted).tolist():
            trained = full_width(federation, outcome.result.submodels, position)
            client = int(outcome.round.clients[position])
            federation.store.put_client(client, PART, {"parameters": trained[mask].numpy()})

    def test(self, federation: Federation, number: int, global_parameters: torch.Tensor) -> dict[str, float]:
        """test_global and test_last; the latter with each client's own layers."""
        return ComposedModels(self.composed).test(federation, number, global_parameters)

    def accounting(self) -> Accounting:
        """Only the shared layers travel."""
        return Accounting(up=self._bytes, down=self._bytes)

    def _bytes(self, federation: Federation, round_: Round, position: int, job: Job) -> int:
        return VALUE_BYTES * int((~self.mask(federation.program)).sum())


def in_turn(own: OwnLayers, objective: Objective, share: float) -> Objective:
    """The own layers train in the first share of the steps, the shared ones in the rest; each from velocity 0."""

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        inner, mask = objective(federation, round_, holds), own.mask(federation.program)
        jobs = []
        for job in inner.jobs:
            batches = -(-len(round_.training[job.client]) // federation.config.batch)
            first = math.floor(share * federation.config.epochs * batches + 1e-9)
            (segment,) = job.segments
            phases = (replace(segment, steps=first, trains=mask), replace(segment, trains=~mask))
            jobs.append(replace(job, segments=phases))
        return replace(inner, jobs=tuple(jobs))

    return plan
