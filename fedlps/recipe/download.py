"""What a client receives and holds while it trains: which units, fixed or learned."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import torch

from fedlps.engine.plan import Hold, Learned
from fedlps.program import Program
from fedlps.randomness import Purpose, stream
from fedlps.recipe.federation import Federation, Round
from fedlps_kernels import select_units, unit_abs_sum

Download = Callable[[Federation, Round], tuple[Hold, ...]]
Scores = Callable[[Federation, Round, int], torch.Tensor]
"""(U,) what the units are worth to a client, by its number."""
Whole = Callable[[Program], frozenset[int]]
"""Groups that are never thinned."""

IMPORTANCE = "importance"  # the client's part of the store that holds its redundancies d


def dense() -> Download:
    """Every client holds the whole model."""

    def hold(federation: Federation, round_: Round) -> tuple[Hold, ...]:
        return tuple(Hold(federation.all_counts, federation.all_units) for _ in round_.clients)

    return hold


def learned_units() -> Download:
    """Units learned from the client's stored redundancies, which start as `importance.init` says (section 3)."""

    def hold(federation: Federation, round_: Round) -> tuple[Hold, ...]:
        config = federation.config
        return tuple(
            Hold(
                counts,
                Learned(
                    _redundancy(federation, round_, int(client)),
                    config.objective.lambda_,
                    config.importance.kappa,
                    config.objective.norm,
                ),
            )
            for client, counts in zip(round_.clients, round_.counts(federation), strict=True)
        )

    return hold


def pattern_units(pattern: str, whole: Whole | None = None) -> Download:
    """Units chosen once from the received parameters and held for the round: `first`, `magnitude` or `random`.

    whole: groups that keep all their units.
    """

    def scores(federation: Federation, round_: Round, client: int) -> torch.Tensor:
        seed, received = federation.config.seed, round_.global_parameters
        return pattern_scores(federation.program, pattern, received, seed, round_.number, client)

    return largest_units(scores, whole)


def random_units(purpose: int) -> Download:
    """Units drawn anew for every round and client, group by group. purpose: of the stream (its first id is 0)."""

    def scores(federation: Federation, round_: Round, client: int) -> torch.Tensor:
        return _uniform(federation.program, stream(federation.config.seed, purpose, 0, round_.number, client))

    return largest_units(scores)


def rolling_units() -> Download:
    """Consecutive units of a window that starts at the round's number and wraps around, in every group by itself."""

    def scores(federation: Federation, round_: Round, client: int) -> torch.Tensor:
        places = [(torch.arange(count) - round_.number) % count for count in federation.all_counts]
        return -torch.cat([torch.empty(0, dtype=torch.int64), *places]).to(torch.float64)

    return largest_units(scores)


def counts_at(program: Program, ratio: float, whole: Whole | None = None) -> tuple[int, ...]:
    """Kept units per group at a ratio, all of those groups that are never thinned."""
    full = whole(program) if whole else frozenset()
    return tuple(
        group.units if number in full else count
        for number, (group, count) in enumerate(zip(program.groups, program.counts(ratio), strict=True))
    )


def end_groups(program: Program) -> frozenset[int]:
    """Groups of the last hidden layer and, where all hidden layers are convolutions, of the first one too."""
    hidden = program.layers[:-1]
    first = hidden[:1] if all(layer.kind == "conv" for layer in hidden) else ()
    return frozenset(layer.row_group for layer in (*first, *hidden[-1:]))


def largest_units(scores: Scores, whole: Whole | None = None) -> Download:
    """As many units of every group as the client's ratio allows, those of the largest scores, for the round.

    whole: groups that keep all their units.
    """

    def hold(federation: Federation, round_: Round) -> tuple[Hold, ...]:
        counts = [counts_at(federation.program, float(ratio), whole) for ratio in round_.ratios]
        table = torch.tensor(counts, dtype=torch.int32).reshape(len(counts), -1)
        rows = torch.stack([scores(federation, round_, int(client)) for client in round_.clients])
        kept = select_units(rows, table, federation.layout.groups)
        return tuple(Hold(own, units) for own, units in zip(counts, kept, strict=True))

    return hold


def configured(pattern: str) -> Download:
    """The download for `importance.pattern`."""
    return learned_units() if pattern == "learned" else pattern_units(pattern)


def _redundancy(federation: Federation, round_: Round, client: int) -> torch.Tensor:
    stored = federation.store.get_client(client, IMPORTANCE)
    if stored is not None:
        return torch.from_numpy(stored["redundancy"]).to(federation.dtype)
    if federation.config.importance.init == "random":
        rng = stream(federation.config.seed, Purpose.INITIAL_IMPORTANCE, client)
        return _uniform(federation.program, rng).to(federation.dtype)
    return torch.sigmoid(-unit_abs_sum(round_.global_parameters[None], federation.layout)[0])


def pattern_scores(
    program: Program, pattern: str, parameters: torch.Tensor, seed: int, number: int, client: int
) -> torch.Tensor:
    """(U,) scores whose largest are kept, in float64 where they are drawn.

    parameters: (P,), as received. number: of the round, from 0.
    """
    if pattern == "first":
        return -torch.arange(program.units, dtype=torch.float64)
    if pattern == "random":
        return _uniform(program, stream(seed, Purpose.RANDOM_PATTERN, number, client))
    return unit_abs_sum(parameters[None], program.layout())[0]


def _uniform(program: Program, rng: numpy.random.Generator) -> torch.Tensor:
    """(U,) float64, drawn group by group."""
    drawn = [rng.random(group.units) for group in program.groups]
    return torch.from_numpy(numpy.concatenate([numpy.empty(0), *drawn]))
