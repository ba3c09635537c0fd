"""What sparse training under the server's masks costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy

from fedlps.cost import VALUE_BYTES
from fedlps.engine.plan import Job
from fedlps.recipe.accounting import Accounting, Extra, Weights, paper_weights
from fedlps.recipe.federation import Federation, Round
from fedlps.recipe.prune_regrow import Course, PruneRegrow, due
from fedlps.recipe.state import Kept
from fedlps.recipe.weight_masks import capacity, maskable

Sent = Callable[[Federation, Round, int], bool]
"""Whether the mask travels with the values of the client at a position."""
TOOK_PART = Kept("took_part", lambda outcome, position: {"round": numpy.array([outcome.round.number])})


def sparse(up: Sent, down: Sent, conv_only: bool, extra: Extra | None = None) -> Accounting:
    """Down the values inside the mask that a client receives, up those inside the mask that it ends with; a bit per
    maskable weight where the mask is sent.
    """

    def received(federation: Federation, round_: Round, position: int, job: Job) -> int:
        values = federation.program.size if job.hold.mask is None else int(job.hold.mask.sum())
        bits = capacity(maskable(federation.program, conv_only)) if down(federation, round_, position) else 0
        return VALUE_BYTES * values - (-bits // 8)

    def returned(federation: Federation, round_: Round, position: int, job: Job) -> int:
        values = federation.program.size if job.hold.mask is None else int(job.hold.mask.sum())
        places = maskable(federation.program, conv_only)
        left = course_of(job).before(len(job.segments))
        if left is not None and job.hold.mask is not None:
            values += sum(left) - sum(int(job.hold.mask[place].sum()) for place in places)
        bits = capacity(places) if up(federation, round_, position) else 0
        return VALUE_BYTES * values - (-bits // 8)

    return Accounting(up=returned, down=received, weights=trained_weights(conv_only), besides=extra)


def course_of(job: Job) -> Course:
    """What became of the mask of a job."""
    changes = (segment.after for segment in job.segments)
    return next((change.course for change in changes if isinstance(change, PruneRegrow)), Course())


def trained_weights(conv_only: bool) -> Weights:
    """Weights per layer by the paper's count: of the mask during a segment."""

    def count(federation: Federation, round_: Round, job: Job, segment: int) -> tuple[int, ...]:
        held, left = list(paper_weights(federation.program, job)), course_of(job).before(segment)
        if left is not None:
            starts = {layer.weight: number for number, layer in enumerate(federation.program.layers)}
            for place, kept in zip(maskable(federation.program, conv_only), left, strict=True):
                held[starts[place.start]] = kept
        return tuple(held)

    return count


def scoring(interval: int = 1) -> Extra:
    """One executed operation per parameter at every boundary: what is small is looked for."""
    return lambda federation, round_, position: (
        federation.program.size * len(due(federation, round_, position, interval))
    )


def first_time(federation: Federation, round_: Round, position: int) -> bool:
    """The client has not taken part yet; needs `TOOK_PART` among the method's state."""
    return federation.store.get_client(int(round_.clients[position]), TOOK_PART.part) is None


def after(interval: int) -> Sent:
    """In the last of every so many rounds, which changes the masks."""
    return lambda federation, round_, position: (round_.number + 1) % interval == 0


def before(interval: int) -> Sent:
    """In the first of every so many rounds, which has new masks."""
    return lambda federation, round_, position: round_.number % interval == 0
