"""REFL: starts the least available clients, ends a round before the last is done, folds in late updates by their worth.

Abdelmoniem, Sahu, Canini, Fahmy. EuroSys 2023. https://arxiv.org/abs/2111.01108 (equations 1-5)
"""

from typing import Literal

from pydantic import Field

from fedlps.randomness import Purpose
from fedlps.recipe import Method, Parameters, availability, late, register
from fedlps.run.config import Config

NUMBER = 3  # of its streams: draw 0 gives the cycles of availability, 1 the predictions that are wrong


class REFLParameters(Parameters):
    """The values of the paper; what it takes from traces of real phones is drawn."""

    target: float = Field(default=0.8, gt=0, le=1, description="share of the started clients that a round waits for")
    beta: float = Field(default=0.35, ge=0, le=1, description="weight of a late update's difference")
    availability: Literal["all", "trace"] = Field(default="all", description="clients are there always, or in cycles")
    online: float = Field(default=0.5, gt=0, le=1, description="trace: share of its cycle that a client is there")
    cycle: float = Field(default=100.0, gt=0, description="trace: mean cycle, in rounds of the fastest device")
    reliability: float = Field(default=0.9, ge=0, le=1, description="trace: probability that a prediction is right")


@register("refl", REFLParameters, __doc__)
def refl(parameters: REFLParameters, config: Config) -> Method:
    """Selection, the end of a round and the aggregation know of late uploads; training is plain."""
    trace = availability.Cycles(Purpose.METHOD + NUMBER, 0, parameters.online, parameters.cycle, parameters.reliability)
    return Method(
        selection=late.Available(parameters.target, trace if parameters.availability == "trace" else None),
        aggregation=late.WithLate(parameters.target, parameters.beta),
        duration=lambda federation, outcome: late.ended(outcome, parameters.target),
    )
