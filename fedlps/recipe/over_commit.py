"""More clients start than are needed: the first whose uploads arrive count, the others have worked in vain."""

from __future__ import annotations

import numpy
from numpy.typing import NDArray

from fedlps.recipe import selection
from fedlps.recipe.federation import Federation, Outcome
from fedlps.recipe.upload import Upload, Uploads, held_entries


def awaited(federation: Federation, outcome: Outcome) -> NDArray[numpy.bool_]:
    """(n,) of the clients whose uploads arrive the first C to be done; of equally fast ones the earlier in the cohort.

    C: as many as are selected without over-commitment, so that then all are awaited.
    """
    seconds = numpy.array([cost.seconds for cost in outcome.costs])
    arriving = numpy.flatnonzero(outcome.counted)
    first = arriving[numpy.argsort(seconds[arriving], kind="stable")][: _needed(federation)]
    return numpy.isin(numpy.arange(len(seconds)), first)


def first_uploads() -> Upload:
    """What the awaited clients hold."""
    every = held_entries()

    def uploads(federation: Federation, outcome: Outcome) -> Uploads:
        sent, chosen = every(federation, outcome), awaited(federation, outcome)
        rows = [row for row, position in enumerate(sent.positions) if chosen[position]]
        return Uploads(tuple(sent.positions[row] for row in rows), sent.residuals[rows], sent.layout)

    return uploads


def until_enough(federation: Federation, outcome: Outcome) -> float:
    """Seconds until enough clients are done; until all are, where too few uploads arrive."""
    chosen = awaited(federation, outcome)
    enough = len(chosen) > _needed(federation) == chosen.sum()
    return max(
        cost.seconds for cost, counts in zip(outcome.costs, chosen.tolist(), strict=True) if counts or not enough
    )


def _needed(federation: Federation) -> int:
    return selection.cohort_size(federation.config.clients, federation.config.fraction)
