"""A mask of single weights for each client, kept from one of its participations to the next."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import torch

from fedlps.cost import VALUE_BYTES
from fedlps.engine.plan import Hold, Job
from fedlps.recipe.accounting import Bytes
from fedlps.recipe.download import Download
from fedlps.recipe.federation import Federation, Outcome, Round
from fedlps.recipe.state import Kept
from fedlps.recipe.weight_masks import capacity, maskable

PART = "mask"
First = Callable[[Federation, int], torch.Tensor]
"""The mask (P,) bool that a client, by its number, begins with."""


def all_ones(federation: Federation, client: int) -> torch.Tensor:
    """Everything."""
    return torch.ones(federation.program.size, dtype=torch.bool)


def stored_mask(federation: Federation, client: int, first: First) -> torch.Tensor:
    """The client's mask, (P,) bool."""
    stored = federation.store.get_client(client, PART)
    if stored is None:
        return first(federation, client)
    return torch.from_numpy(numpy.unpackbits(stored["mask"], count=federation.program.size).astype(numpy.bool_))


def _ended(outcome: Outcome, position: int) -> dict[str, numpy.ndarray]:
    return {"mask": numpy.packbits(outcome.result.probes["mask"][position].numpy())}


ENDED = Kept(PART, _ended)
"""The mask that a client ends its training with; the plan must ask for the probe `mask`."""


def held(first: First) -> Download:
    """The whole model under the client's mask."""

    def hold(federation: Federation, round_: Round) -> tuple[Hold, ...]:
        return tuple(
            Hold(federation.all_counts, federation.all_units, stored_mask(federation, client, first))
            for client in round_.clients.tolist()
        )

    return hold


def composed(first: First) -> Callable[[Federation, int, torch.Tensor, int], torch.Tensor]:
    """The global parameters inside the client's mask, 0 outside."""

    def compose(federation: Federation, client: int, parameters: torch.Tensor, number: int) -> torch.Tensor:
        return torch.where(stored_mask(federation, client, first), parameters, 0)

    return compose


def received_bytes(first: First) -> Bytes:
    """The values inside the client's mask, which the server knows."""

    def count(federation: Federation, round_: Round, position: int, job: Job) -> int:
        return VALUE_BYTES * int(stored_mask(federation, int(round_.clients[position]), first).sum())

    return count


def sent_bytes(first: First, always: bool = False) -> Bytes:
    """The values inside the mask that was trained, and a bit per maskable weight if the mask is new, or always."""

    def count(federation: Federation, round_: Round, position: int, job: Job) -> int:
        mask = all_ones(federation, 0) if job.hold.mask is None else job.hold.mask
        new = always or not torch.equal(mask, stored_mask(federation, int(round_.clients[position]), first))
        bits = capacity(maskable(federation.program)) if new else 0
        return VALUE_BYTES * int(mask.sum()) - (-bits // 8)

    return count
