"""What a round says of masks: how far clients and server agree on them, how dense they are, what they save."""

from __future__ import annotations

from itertools import combinations

import numpy
import torch

from fedlps.cost import VALUE_BYTES
from fedlps.recipe import counts
from fedlps.recipe.consensus import BEFORE, client_masks, server_masks
from fedlps.recipe.federation import Federation, Outcome
from fedlps.recipe.first_stage import COST
from fedlps.recipe.mask_accounting import trained_weights
from fedlps.recipe.method import Measure
from fedlps.recipe.weight_masks import Places, capacity, maskable

UPLINK = "uplink"  # bytes of all uploads so far: of whole models, and what was sent


def agreement(conv_only: bool, density: float) -> Measure:
    """Metrics of a method whose server has masks of this density.

    mask_mismatch: of the round's clients; mask_mismatch_pairs: mean over pairs of them; mask_mismatch_server: mean of
    client and new server mask; mask_mismatch_rounds: of the server's masks before and after. density: of the maskable
    weights of the server's model that are not 0; density_all: of all parameters. communication_saved: uplink of whole
    models over the uplink so far; communication_ideal: the same if only the maskable weights that are kept were sent.
    first_stage_*: what came before round 1. flops_sparse: `fedlps.recipe.counts`.
    """

    def measure(federation: Federation, outcome: Outcome, parameters: torch.Tensor) -> dict[str, float]:
        places = maskable(federation.program, conv_only)
        alive = numpy.flatnonzero(~outcome.result.diverged)
        own = [covered(mask, places) for mask in client_masks(outcome)]
        own = [own[position] for position in alive]
        after = covered(server_masks(federation)[0], places)
        before = covered(server_masks(federation, BEFORE)[0], places)
        nonzero = [int((covered(parameters, places) != 0).sum()), int((parameters != 0).sum())]
        stage = federation.store.get_tensor(COST)
        flops, executed, sent = [0, 0, 0] if stage is None else stage.tolist()
        return {
            "mask_mismatch": mismatch(*own),
            "mask_mismatch_pairs": _mean([mismatch(*pair) for pair in combinations(own, 2)]),
            "mask_mismatch_server": _mean([mismatch(mask, after) for mask in own]),
            "mask_mismatch_rounds": mismatch(before, after),
            "density": nonzero[0] / capacity(places),
            "density_all": nonzero[1] / len(parameters),
            "communication_saved": _saved(federation, outcome, len(alive), alive.tolist()),
            "communication_ideal": 1 / density,
            **counts.sparse_kernels(trained_weights(conv_only))(federation, outcome, parameters),
            "first_stage_flops_paper": float(flops),
            "first_stage_flops_executed": float(executed),
            "first_stage_bytes_up": float(sent),
        }

    return measure


def mismatch(*masks: torch.Tensor) -> float:
    """1 - |intersection| / |union| of masks (n,) bool (Jaccard); 0 where the union is empty."""
    if not masks:
        return 0.0
    stacked = torch.stack(masks)
    union = int(stacked.any(0).sum())
    return 1 - int(stacked.all(0).sum()) / union if union else 0.0


def covered(values: torch.Tensor, places: Places) -> torch.Tensor:
    """The maskable entries of a vector (P,), layer after layer."""
    return torch.cat([values[place] for place in places])


def _saved(federation: Federation, outcome: Outcome, uploads: int, alive: list[int]) -> float:
    earlier = federation.store.get_tensor(UPLINK)
    whole, sent = [0, 0] if earlier is None else earlier.tolist()
    whole += VALUE_BYTES * federation.program.size * uploads
    sent += sum(outcome.costs[position].bytes_up for position in alive)
    federation.store.put_tensor(UPLINK, numpy.array([whole, sent], dtype=numpy.int64))
    return whole / sent


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
