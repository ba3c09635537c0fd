"""A model of each client's own, which it trains beside the global one or alone."""

from __future__ import annotations

from dataclasses import replace

import torch

from fedlps.engine.plan import Hold, Plan
from fedlps.engine.result import Submodels
from fedlps.program import initial_parameters
from fedlps.recipe.federation import Federation, Outcome, Round
from fedlps.recipe.objective import Objective

LAST = "last"  # the client's part of the store that holds the latest of its own models


def own_model(federation: Federation, round_: Round, position: int) -> torch.Tensor:
    """Where a client's own model starts (P,): from what it was, the first time from the initial parameters."""
    stored = federation.store.get_client(int(round_.clients[position]), LAST)
    if stored is None:
        return torch.from_numpy(initial_parameters(federation.program, federation.config.seed)).to(federation.dtype)
    kept, counts, values = (torch.from_numpy(stored[name]) for name in ("kept", "counts", "parameters"))
    return full_width(federation, Submodels(kept[None], counts[None], values[None]), 0)


def full_width(federation: Federation, models: Submodels, row: int) -> torch.Tensor:
    """(P,) one of the models, 0 where it holds nothing."""
    entries = federation.layout.entries(models.kept[row], models.counts[row])
    flat = torch.zeros(federation.program.size, dtype=federation.dtype)
    flat[entries] = models.parameters[row, : len(entries)].to(federation.dtype)
    return flat


def staying(objective: Objective) -> Objective:
    """What comes of these jobs stays with the clients."""

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        inner = objective(federation, round_, holds)
        return replace(inner, jobs=tuple(replace(job, destination="personal") for job in inner.jobs))

    return plan


def together(*objectives: Objective) -> Objective:
    """Every client has the jobs of all of them."""

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        plans = [objective(federation, round_, holds) for objective in objectives]
        jobs = tuple(job for inner in plans for job in inner.jobs)
        return Plan(jobs, frozenset(probe for inner in plans for probe in inner.probes))

    return plan


def own_models(outcome: Outcome) -> Submodels:
    """The models of the jobs that stay with the clients, one per client."""
    found = [outcome.personal(position) for position in range(len(outcome.round.clients))]
    return found[0][0].submodels[[row for _, row in found]]
