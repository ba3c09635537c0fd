"""Which entries of a trained model travel back to the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fedlps.engine.result import Submodels
from fedlps.recipe.federation import Federation, Outcome
from fedlps_kernels import Layout, gather_weights


@dataclass(frozen=True)
class Uploads:
    """The uploads of a round that arrive, in cohort order.

    positions: of their clients in the cohort. residuals: w^r - w_E, gathered by `layout` on the entries that travel.
    """

    positions: tuple[int, ...]
    residuals: Submodels
    layout: Layout

    def __len__(self) -> int:
        return len(self.positions)


Travels = Callable[[Federation, Outcome, int], torch.Tensor | None]
"""(P,) bool, the entries that the client at a position of the cohort may send; None: all that it holds."""

Upload = Callable[[Federation, Outcome], Uploads]


def held_mask(federation: Federation, outcome: Outcome, position: int) -> torch.Tensor | None:
    """The mask that the client trained under."""
    jobs = [job for job in outcome.plan.jobs if job.client == position and job.destination == "upload"]
    return jobs[0].hold.mask if jobs else None


def held_entries(travels: Travels = held_mask) -> Upload:
    """The held entries of w^r - w_E [(12)]: the units kept after the last step and, of those, what travels."""

    def uploads(federation: Federation, outcome: Outcome) -> Uploads:
        positions = [int(position) for position in outcome.counted.nonzero()[0]]
        trained = outcome.result.submodels.rows(positions)
        capacity = trained.parameters.shape[1]
        change = gather_weights(
            outcome.round.global_parameters[None], trained.kept, trained.counts, federation.layout, capacity
        )
        for row, size in enumerate(federation.layout.compact_sizes(trained.counts).tolist()):
            change[row, :size] -= trained.parameters[row, :size]
        residuals = Submodels(trained.kept, trained.counts, change)
        masks = [travels(federation, outcome, position) for position in positions]
        if any(mask is not None for mask in masks):
            return by_entry(federation, tuple(positions), residuals, masks)
        return Uploads(tuple(positions), residuals, federation.layout)

    return uploads


def nothing(federation: Federation, outcome: Outcome) -> Uploads:
    """No client sends anything."""
    return Uploads((), outcome.result.submodels[[]], federation.layout)


def by_entry(
    federation: Federation, positions: tuple[int, ...], residuals: Submodels, masks: list[torch.Tensor | None]
) -> Uploads:
    """The same residuals restricted to masks (P,), gathered by a layout in which every entry is a unit of its own."""
    size = federation.program.size
    layout = Layout(
        table=torch.tensor([[0, -1, size, 1, 1, 0, -1, -1, -1]]), groups=torch.tensor([0, size]), parameters=size
    )
    rows = []
    for row, mask in enumerate(masks):
        entries = federation.layout.entries(residuals.kept[row], residuals.counts[row])
        inside = torch.ones_like(entries, dtype=torch.bool) if mask is None else mask[entries]
        order = entries[inside].argsort()
        rows.append((entries[inside][order], residuals.parameters[row, : len(entries)][inside][order]))
    capacity = max((len(entries) for entries, _ in rows), default=0)
    kept = torch.full((len(rows), size), -1, dtype=torch.int32)
    values = torch.zeros((len(rows), capacity), dtype=residuals.parameters.dtype)
    for row, (entries, own) in enumerate(rows):
        kept[row, : len(entries)] = entries.to(torch.int32)
        values[row, : len(own)] = own
    counts = torch.tensor([[len(entries)] for entries, _ in rows], dtype=torch.int32).reshape(-1, 1)
    return Uploads(positions, Submodels(kept, counts, values), layout)
