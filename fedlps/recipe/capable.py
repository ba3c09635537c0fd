"""The global model as devices can hold it: for methods whose clients hold less of it the weaker they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy
import torch

from fedlps.recipe import capability
from fedlps.recipe.download import Whole, counts_at
from fedlps.recipe.evaluation import global_accuracies
from fedlps.recipe.federation import Federation, Outcome
from fedlps_kernels import select_units

Restrict = Callable[[Federation, torch.Tensor, float], torch.Tensor]
"""Of global parameters (P,) what a device of a capability holds, 0 elsewhere."""


def leading_units(federation: Federation, counts: tuple[int, ...]) -> torch.Tensor:
    """(U,) int32, the leading units of every group, as `select_units` returns them."""
    scores = -torch.arange(federation.program.units, dtype=torch.float64)
    table = torch.tensor([counts], dtype=torch.int32).reshape(1, -1)
    return select_units(scores[None], table, federation.layout.groups)[0]


def on_leading_units(
    federation: Federation, parameters: torch.Tensor, speed: float, whole: Whole | None = None
) -> torch.Tensor:
    """The parameters (P,) of as many leading units as the capability allows, 0 elsewhere. whole: groups kept whole."""
    counts = counts_at(federation.program, speed, whole)
    entries = federation.layout.entries(leading_units(federation, counts), torch.tensor(counts))
    inside = torch.zeros_like(parameters)
    inside[entries] = parameters[entries]
    return inside


@dataclass(frozen=True)
class CapableModels:
    """Tests, besides the global model, what of it each client's device can hold in this round, as test_capable."""

    held: Restrict = on_leading_units

    def remember(self, federation: Federation, outcome: Outcome) -> None:
        """Nothing: the global model is at hand."""

    def test(self, federation: Federation, number: int, global_parameters: torch.Tensor) -> dict[str, float]:
        """test_global and test_capable."""
        overall = global_accuracies(federation, global_parameters)
        speeds, own = capability.speeds(federation.config, number), overall.copy()
        for speed in numpy.unique(speeds[speeds < 1]).tolist():
            clients = numpy.flatnonzero(speeds == speed)
            model = self.held(federation, global_parameters, speed)
            own[clients] = global_accuracies(federation, model, clients)
        return {"test_global": 100 * float(overall.mean()), "test_capable": 100 * float(own.mean())}
