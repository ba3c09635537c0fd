"""A first stage before round 1: some clients train sparsely, and only the layers' densities they end with are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy
import torch
from pydantic import Field

from fedlps.engine.cohort import Indices, cohort
from fedlps.engine.plan import Hold
from fedlps.errors import InputError
from fedlps.randomness import Purpose, stream
from fedlps.recipe.accounting import Accounting
from fedlps.recipe.consensus import keep_masks
from fedlps.recipe.federation import Federation, Round
from fedlps.recipe.mask_accounting import scoring, trained_weights
from fedlps.recipe.method import Parameters, Prologue
from fedlps.recipe.objective import Objective
from fedlps.recipe.prune_regrow import Density, pruned_and_regrown
from fedlps.recipe.selection import cohort_size
from fedlps.recipe.weight_masks import balanced, capacity, maskable, ones, random_mask

CLIENTS, MASK, REGROWN, SERVER_MASK, REGROWN_IN_ROUNDS = range(5)  # a method's draws
COST = "first_stage"  # what it cost: operations by the paper's count, executed ones, bytes up


class SparseParameters(Parameters):
    """What sparse training with a first stage is given."""

    density: float = Field(0.05, gt=0, le=1, description="share of the maskable weights that is kept")
    prune_rate: float = Field(0.25, ge=0, le=1, description="share removed and regrown, falling to 0 within a round")
    first_share: float = Field(0.1, gt=0, le=1, description="share of the clients that train before round 1")
    first_epochs: int = Field(10, ge=0, description="their epochs; 0: none train, all layers are equally dense")
    conv_only: bool = Field(False, description="mask the weights of convolutions only")
    exact_count: bool = Field(
        True, description="regrow as many as were removed; else as many on average, corrected towards the density"
    )


def pruned_in_rounds(
    parameters: SparseParameters, number: int, interval: int = 1, density: Density | None = None
) -> Objective:
    """Pruning and regrowing after the first stage, with draws of its own. density: None: everyone's is the same."""
    return pruned_and_regrown(
        parameters.prune_rate, parameters.conv_only, number, REGROWN_IN_ROUNDS, interval,
        parameters.exact_count, density or (lambda round_, position: parameters.density),
    )  # fmt: skip


def layer_densities(parameters: SparseParameters, number: int, levels: int = 1) -> Prologue:
    """Clients train one random mask, the mean of their layers' densities makes the server's mask at random.

    All levels begin with that one mask; the model begins anew under it. number: the method's.
    """

    def prologue(federation: Federation, initial: torch.Tensor) -> torch.Tensor:
        config, density = federation.config, parameters.density
        places = maskable(federation.program, parameters.conv_only)

        def draws(what: int) -> numpy.random.Generator:
            return stream(config.seed, Purpose.METHOD + number, what, 0, 0)

        densities = [density] * len(places)
        if parameters.first_epochs:
            chosen = draws(CLIENTS).permutation(config.clients)[: cohort_size(config.clients, parameters.first_share)]
            mask = random_mask(len(initial), places, densities, draws(MASK))
            mean = _trained(federation, parameters, number, initial, mask, chosen)
            densities = balanced(places, mean, density)
        server = random_mask(len(initial), places, densities, draws(SERVER_MASK))
        keep_masks(federation, [server] * levels)
        return torch.where(server, initial, 0)

    return prologue


def _trained(
    federation: Federation,
    parameters: SparseParameters,
    number: int,
    initial: torch.Tensor,
    mask: torch.Tensor,
    chosen: Indices,
) -> list[float]:
    """The mean densities of the layers after these clients have trained the mask; what that costs is stored."""
    config, places = federation.config, maskable(federation.program, parameters.conv_only)
    stage = replace(federation, config=config.model_copy(update={"epochs": parameters.first_epochs}))
    round_ = Round(
        number=0,
        lr=config.lr,
        clients=chosen,
        training=tuple(federation.split.client(int(client)).train for client in chosen),
        capabilities=numpy.ones(len(chosen)),
        ratios=numpy.ones(len(chosen)),
        global_parameters=initial,
    )
    objective = pruned_and_regrown(
        parameters.prune_rate, parameters.conv_only, number, REGROWN,
        exact=parameters.exact_count, density=lambda round_, position: parameters.density,
    )  # fmt: skip
    plan = objective(stage, round_, (Hold(federation.all_counts, federation.all_units, mask),) * len(chosen))
    batches = cohort(config.seed, 0, chosen, round_.training, epochs=parameters.first_epochs, batch=config.batch)
    result = federation.executor.train(initial, plan, batches)
    if result.diverged.all():
        raise InputError(f"lr: got {config.lr:g}, with which all clients of the first stage diverged")
    bits = -(-capacity(places) // 8)
    counting = Accounting(up=lambda *_: bits, weights=trained_weights(parameters.conv_only), besides=scoring())
    costs = counting(stage, round_, plan)
    spent = [(cost.flops_paper, cost.flops_executed, cost.bytes_up) for cost in costs]
    federation.store.put_tensor(COST, numpy.array(spent, dtype=numpy.int64).sum(axis=0))
    trained = [own for own, lost in zip(result.probes["mask"], result.diverged, strict=True) if not lost]
    sizes = [place.stop - place.start for place in places]
    mean: list[float] = numpy.mean([numpy.divide(ones(own, places), sizes) for own in trained], axis=0).tolist()
    return mean
