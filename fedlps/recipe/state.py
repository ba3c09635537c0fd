"""What a client keeps from one of its participations to the next: a declaration, the store does the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy

from fedlps.recipe.federation import Federation, Outcome


@dataclass(frozen=True)
class Kept:
    """A part of a client's state and how to read it from a round's outcome, for the client at a position."""

    part: str
    arrays: Callable[[Outcome, int], Mapping[str, numpy.ndarray]]


def redundancies(part: str) -> Kept:
    """The redundancies d_E of the client's units [line 23]."""
    return Kept(part, lambda outcome, position: {"redundancy": outcome.result.redundancy[position].numpy()})


def keep(federation: Federation, outcome: Outcome, declared: tuple[Kept, ...]) -> None:
    """Store the declared state of every client that counts; the others keep what they had."""
    for position in outcome.counted.nonzero()[0]:
        for kept in declared:
            client = int(outcome.round.clients[position])
            federation.store.put_client(client, kept.part, kept.arrays(outcome, int(position)))
