"""One mask for all: the server's masks, one per level of density, in its store, and how rounds change them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy
import torch

from fedlps.engine.plan import Hold
from fedlps.recipe.aggregation import Aggregation
from fedlps.recipe.download import Download
from fedlps.recipe.federation import Federation, Outcome, Round
from fedlps.recipe.upload import Uploads
from fedlps.recipe.weight_masks import maskable, ones, recalibrated

MASKS, BEFORE = "masks", "masks_before"  # the server's masks of the round to come, and those of the last one
Level = Callable[[float], int]
"""The number of the level that a device of a capability holds."""
Sensitivity = Literal["clients", "aggregate"]


def keep_masks(federation: Federation, masks: Sequence[torch.Tensor]) -> None:
    """Store the masks, (P,) bool, of all levels, the densest first; the last ones become those before."""
    earlier = federation.store.get_tensor(MASKS)
    packed = numpy.packbits(torch.stack(list(masks)).numpy(), axis=1)
    federation.store.put_tensor(BEFORE, packed if earlier is None else earlier)
    federation.store.put_tensor(MASKS, packed)


def server_masks(federation: Federation, name: str = MASKS) -> torch.Tensor:
    """(levels, P) bool. Raises ValueError before the first are made."""
    packed = federation.store.get_tensor(name)
    if packed is None:
        raise ValueError(f"{name}: the store has none; a prologue makes the first")
    return torch.from_numpy(numpy.unpackbits(packed, axis=1, count=federation.program.size).astype(numpy.bool_))


def densest(capability: float) -> int:
    """The only level where there is but one."""
    return 0


def masked(level: Level = densest) -> Download:
    """The whole model under the server's mask of the client's level."""

    def hold(federation: Federation, round_: Round) -> tuple[Hold, ...]:
        masks = server_masks(federation)
        return tuple(
            Hold(federation.all_counts, federation.all_units, masks[level(float(speed))])
            for speed in round_.capabilities
        )

    return hold


def client_masks(outcome: Outcome) -> list[torch.Tensor]:
    """m_k: the masks, (P,) bool, that the clients of a round end with, in cohort order."""
    return [trained_mask(None, outcome, position) for position in range(len(outcome.round.clients))]


def trained_mask(federation: Federation | None, outcome: Outcome, position: int) -> torch.Tensor:
    """The mask that the client at a position ends with."""
    mask: torch.Tensor = outcome.result.probes["mask"][position]
    return mask


def everything(federation: Federation, outcome: Outcome, position: int) -> None:
    """Removed weights travel as well: as the zeros that a mean over all clients counts."""


def unchanged(average: Aggregation) -> Aggregation:
    """The average of the clients; the masks stay, and nothing leaves the densest."""

    def aggregate(federation: Federation, outcome: Outcome, uploads: Uploads) -> torch.Tensor:
        mean = average(federation, outcome, uploads)
        keep_masks(federation, masks := list(server_masks(federation)))
        return torch.where(masks[0], mean, 0)

    return aggregate


def agreed(
    average: Aggregation,
    densities: Sequence[float],
    conv_only: bool,
    sensitivity: Sensitivity = "clients",
    interval: int = 1,
    frozen: bool = False,
) -> Aggregation:
    """The average of the clients, cut to a mask of its largest magnitudes that is made anew every so many rounds.

    densities: of each level, the densest first. sensitivity: how many weights a layer should keep: as many as its
    clients' masks on average, or as many as the average is not 0 in. frozen: masks of the largest density never change.
    """

    def aggregate(federation: Federation, outcome: Outcome, uploads: Uploads) -> torch.Tensor:
        masks = list(server_masks(federation))
        if len(uploads) == 0:
            keep_masks(federation, masks)
            return outcome.round.global_parameters
        places = maskable(federation.program, conv_only)
        own = [trained_mask(federation, outcome, position) for position in uploads.positions]
        # a weight that every client removed is 0, not what rounding leaves of it
        mean = torch.where(torch.stack(own).any(0), average(federation, outcome, uploads), 0)
        if (outcome.round.number + 1) % interval == 0:
            if sensitivity == "clients":
                wanted = numpy.mean([ones(mask, places) for mask in own], axis=0).tolist()
            else:
                wanted = ones(mean != 0, places)
            masks = [
                mask if frozen and density == max(densities) else recalibrated(mean, places, wanted, density)
                for mask, density in zip(masks, densities, strict=True)
            ]
        keep_masks(federation, masks)
        return torch.where(masks[0], mean, 0)

    return aggregate
