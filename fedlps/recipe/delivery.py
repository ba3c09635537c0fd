"""Which uploads arrive."""

from __future__ import annotations

from collections.abc import Callable

import numpy
from numpy.typing import NDArray

from fedlps.engine.result import LocalResult
from fedlps.randomness import Purpose, stream
from fedlps.recipe.federation import Federation, Round

Delivery = Callable[[Federation, Round, LocalResult], NDArray[numpy.bool_]]


def random_loss() -> Delivery:
    """(C,) uploads lost with probability `faults.dropout` (stream 9); who diverged has none to lose (section 6)."""

    def dropped(federation: Federation, round_: Round, result: LocalResult) -> NDArray[numpy.bool_]:
        draws = stream(federation.config.seed, Purpose.FAULTS, round_.number).random(len(round_.clients))
        lost: NDArray[numpy.bool_] = (draws < federation.config.faults.dropout) & ~result.diverged
        return lost

    return dropped
