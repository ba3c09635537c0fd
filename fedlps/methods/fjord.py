"""FjORD: every step trains a random width of nested submodels, taught by the widest that the device can carry.

Horvath, Laskaridis, Almeida, Leontiadis, Venieris, Lane. NeurIPS 2021. https://arxiv.org/abs/2102.13451
"""

from dataclasses import replace
from typing import Annotated

from annotated_types import Len
from pydantic import Field

from fedlps.engine.plan import Hold, Job, Pass, Plan
from fedlps.randomness import Purpose, stream
from fedlps.recipe import (
    Method,
    Parameters,
    accounting,
    aggregation,
    capable,
    counts,
    download,
    objective,
    ratio,
    register,
)
from fedlps.recipe.federation import Federation, Round
from fedlps.run.config import Config, Share
from fedlps.run.values import Allowed

NUMBER = 7  # of its streams

Widths = Annotated[tuple[Share, ...], Len(1), Allowed("a list of numbers in (0, 1]")]


class FjordParameters(Parameters):
    widths: Widths = Field(
        default=(1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0), description="ratios that a step's width is drawn from"
    )
    kd: bool = Field(default=True, description="the client's full width is trained too and teaches the drawn one")


@register("fjord", FjordParameters, __doc__)
def fjord(parameters: FjordParameters, config: Config) -> Method:
    """The largest ratio is the capability; an entry becomes the mean, weighted by data, over those that hold it."""

    def ordered_dropout(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        plan = objective.cross_entropy()(federation, round_, holds)
        return replace(plan, jobs=tuple(_with_widths(parameters, federation, round_, job) for job in plan.jobs))

    return Method(
        ratio=ratio.Capability(),
        download=download.pattern_units("first"),
        objective=ordered_dropout,
        aggregation=aggregation.residuals("holders"),
        evaluation=capable.CapableModels(),
        accounting=accounting.Accounting(down=accounting.held_entries()),
        measure=counts.rows_and_columns(),
    )


def _with_widths(parameters: FjordParameters, federation: Federation, round_: Round, job: Job) -> Job:
    """The job with a width drawn for every step."""
    config, largest = federation.config, float(round_.ratios[job.client])
    steps = config.epochs * -(-len(round_.training[job.client]) // config.batch)
    allowed = sorted(width for width in parameters.widths if width <= largest) or [largest]
    rng = stream(config.seed, Purpose.METHOD + NUMBER, 0, round_.number, int(round_.clients[job.client]))
    drawn = [allowed[int(draw * len(allowed))] for draw in rng.random(steps).tolist()]
    if not parameters.kd:
        passes: tuple[Pass, ...] = (Pass(widths=tuple(map(federation.program.counts, drawn))),)
    else:
        narrow = [federation.program.counts(width) if width < largest else None for width in drawn]
        passes = (Pass(), Pass(widths=tuple(narrow), teacher=0))
    return replace(job, segments=tuple(replace(segment, passes=passes) for segment in job.segments))
