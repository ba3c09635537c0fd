"""Lottery tickets: a client that is accurate enough prunes its smallest weights and starts over from the first ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy
import torch

from fedlps.engine.cohort import Indices
from fedlps.engine.plan import Hold, Plan
from fedlps.program import initial_parameters
from fedlps.recipe.download import Download
from fedlps.recipe.federation import Federation, Floats, Outcome, Round
from fedlps.recipe.gate import validation_accuracies, validation_flops
from fedlps.recipe.objective import Objective, cross_entropy
from fedlps.recipe.personal_mask import all_ones, stored_mask
from fedlps.recipe.weight_masks import TOLERANCE, Places, maskable

PART = "rate"


@dataclass(frozen=True)
class Tickets:
    """The rates rho_k, which say how often a client has pruned; also the parts that prune.

    start: validation accuracy that must be exceeded. end: at this rate or below a client prunes no more. share: what
    each pruning removes of a layer.
    """

    start: float
    end: float
    share: float

    def choose(self, federation: Federation, clients: Indices, capabilities: Floats) -> Floats:
        """The rates before the round; 1 at first."""
        return numpy.array([self.rate(federation, client) for client in clients.tolist()])

    def observe(self, federation: Federation, outcome: Outcome) -> None:
        """Lower the rates of those that pruned and count. Asked before their new masks are stored."""
        for position in numpy.flatnonzero(outcome.counted).tolist():
            client = int(outcome.round.clients[position])
            if not torch.equal(outcome.result.probes["mask"][position], stored_mask(federation, client, all_ones)):
                lowered = (1 - self.share) * self.rate(federation, client)
                federation.store.put_client(client, PART, {"rate": numpy.array([lowered])})

    def rate(self, federation: Federation, client: int) -> float:
        """rho_k of a client, by its number."""
        stored = federation.store.get_client(client, PART)
        return 1.0 if stored is None else float(stored["rate"][0])

    def due(self, federation: Federation, client: int) -> bool:
        """Whether a client may prune if it is accurate enough."""
        return self.rate(federation, client) > self.end + TOLERANCE

    def held(self) -> Download:
        """The whole model under the clients' masks, pruned where the received parameters pass the gate."""

        def hold(federation: Federation, round_: Round) -> tuple[Hold, ...]:
            clients, places = round_.clients.tolist(), maskable(federation.program)
            masks = {client: stored_mask(federation, client, all_ones) for client in clients}
            asked = [client for client in clients if self.due(federation, client)]
            models = [torch.where(masks[client], round_.global_parameters, 0) for client in asked]
            accuracies = validation_accuracies(federation, asked, models)
            for client, model, accuracy in zip(asked, models, accuracies, strict=True):
                if accuracy > self.start:
                    masks[client] = pruned(model, masks[client], places, self.share)
            return tuple(Hold(federation.all_counts, federation.all_units, masks[client]) for client in clients)

        return hold

    def gate_flops(self, federation: Federation, round_: Round, position: int) -> int:
        """Executed operations of the gate."""
        client = int(round_.clients[position])
        return validation_flops(federation, client) if self.due(federation, client) else 0


def pruned(parameters: torch.Tensor, mask: torch.Tensor, places: Places, share: float) -> torch.Tensor:
    """The mask without the weights whose magnitude is strictly below the layer's quantile of those that are not 0.

    parameters: (P,), 0 outside the mask (P,) bool.
    """
    left = mask.clone()
    for place in places:
        magnitudes = parameters[place].abs().to(torch.float64).numpy()
        alive = magnitudes[magnitudes > 0]
        if len(alive):
            left[place] &= torch.from_numpy(magnitudes >= numpy.quantile(alive, share))
    return left


def rewound() -> Objective:
    """Cross entropy from the received parameters; who has just pruned starts from the first ones of the run."""

    def start(federation: Federation, round_: Round, client: int, mask: torch.Tensor) -> torch.Tensor:
        received = round_.global_parameters
        if torch.equal(mask, stored_mask(federation, client, all_ones)):
            return torch.where(mask, received, 0)
        first = torch.from_numpy(initial_parameters(federation.program, federation.config.seed))
        return torch.where(mask, first.to(received.dtype), 0)

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        inner = cross_entropy()(federation, round_, holds)
        jobs = []
        for job in inner.jobs:
            mask = all_ones(federation, 0) if job.hold.mask is None else job.hold.mask
            client = int(round_.clients[job.client])
            jobs.append(replace(job, start=start(federation, round_, client, mask)))
        return Plan(tuple(jobs), frozenset({"mask"}))

    return plan
