"""Unit sets that clients keep and that shrink where their model is good enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
import torch

from fedlps.cost import VALUE_BYTES, submodel_entries, submodel_weights, training_flops
from fedlps.engine.plan import Hold, Job
from fedlps.engine.result import Submodels
from fedlps.recipe import accounting
from fedlps.recipe.federation import Federation, Outcome, Round
from fedlps.recipe.state import Kept
from fedlps_kernels import unit_abs_sum

UNITS = "units"  # the client's part of the store: its unit set
PUBLISHED = {"cifar10": 0.3, "cifar100": 0.3, "tinyimagenet": 0.4}
OTHERWISE = 0.5
UnitSet = tuple[tuple[int, ...], torch.Tensor]
"""Counts per group, and the units as `select_units` returns them: (U,) int32."""


def published_end(data: str) -> float:
    """The share of the parameters at which the published scripts stop on a data set; on any other that of MNIST."""
    return PUBLISHED.get(data, OTHERWISE)


@dataclass(frozen=True)
class ShrinkingUnits:
    """A download: the client's unit set, of which units of small norm are dropped while it is accurate.

    start: accuracy on the client's validation data, above which units are dropped; end: share of the parameters, down
    to which; share: quantile of a group's norms, below which.
    """

    start: float
    end: float
    share: float

    def __call__(self, federation: Federation, round_: Round) -> tuple[Hold, ...]:
        """What the clients of a round hold; their sets in the store stay as they are."""
        return tuple(self._hold(federation, round_, int(client)) for client in round_.clients)

    def _hold(self, federation: Federation, round_: Round, client: int) -> Hold:
        counts, kept = stored_units(federation, client)
        if submodel_entries(federation.program, counts) > self.end * federation.program.size:
            entries = federation.layout.entries(kept, torch.tensor(counts))
            model = Submodels(
                kept[None],
                torch.tensor([counts], dtype=torch.int32).reshape(1, -1),
                round_.global_parameters[None, entries],
            )
            validation = federation.split.client(client).validate
            if federation.executor.evaluate(model, [validation], "train").accuracies()[0] > self.start:
                received = on_own_units(federation, client, round_.global_parameters, round_.number)
                norms = unit_abs_sum(received[None], federation.layout)[0]
                counts, kept = without_small((counts, kept), norms, federation.all_counts, self.share)
        return Hold(counts, kept)


def without_small(own: UnitSet, norms: torch.Tensor, sizes: tuple[int, ...], share: float) -> UnitSet:
    """Drop, per group, the units of a norm strictly below a quantile of the norms of those that are kept.

    norms: (U,). sizes: units of each group. The quantile lies between two norms (linear); the largest always stays.
    """
    kept, counts, first = own[1].clone(), [], 0
    for size, count in zip(sizes, own[0], strict=True):
        place = kept[first : first + size]
        alive = place[:count].long()
        values = norms[first + alive].to(torch.float64).numpy()
        stay = alive[torch.from_numpy(values >= numpy.quantile(values, share))]
        place[:] = -1
        place[: len(stay)] = stay.to(torch.int32)
        counts.append(len(stay))
        first += size
    return tuple(counts), kept


def stored_units(federation: Federation, client: int) -> UnitSet:
    """A client's unit set: every unit before its first participation."""
    stored = federation.store.get_client(client, UNITS)
    if stored is None:
        return federation.all_counts, federation.all_units
    return tuple(stored["counts"].tolist()), torch.from_numpy(stored["kept"])


def held_units() -> Kept:
    """The unit set that a client trained with."""

    def arrays(outcome: Outcome, position: int) -> dict[str, numpy.ndarray]:
        models = outcome.result.submodels
        return {"kept": models.kept[position].numpy(), "counts": models.counts[position].numpy()}

    return Kept(UNITS, arrays)


def on_own_units(federation: Federation, client: int, parameters: torch.Tensor, number: int) -> torch.Tensor:
    """The global parameters (P,) on a client's units, 0 elsewhere."""
    counts, kept = stored_units(federation, client)
    entries = federation.layout.entries(kept, torch.tensor(counts))
    composed = torch.zeros_like(parameters)
    composed[entries] = parameters[entries]
    return composed


def uploaded_bytes(federation: Federation, round_: Round, position: int, job: Job) -> int:
    """The held values, and one bit per unit if the set has changed."""
    before, _ = stored_units(federation, int(round_.clients[position]))
    return accounting.held_entries(job.hold.counts != before)(federation, round_, position, job)


def received_bytes(federation: Federation, round_: Round, position: int, job: Job) -> int:
    """The values of the set that the client has before it drops any unit."""
    before, _ = stored_units(federation, int(round_.clients[position]))
    return VALUE_BYTES * submodel_entries(federation.program, before)


def validation_flops(end: float) -> accounting.Extra:
    """The forward pass over the client's validation data, until its set has reached a share of the parameters."""

    def count(federation: Federation, round_: Round, position: int) -> int:
        client, program = int(round_.clients[position]), federation.program
        counts, _ = stored_units(federation, client)
        if submodel_entries(program, counts) <= end * program.size:
            return 0
        forward = training_flops(program, submodel_weights(program, counts), [False] * len(program.layers))
        return forward * len(federation.split.client(client).validate)

    return count
