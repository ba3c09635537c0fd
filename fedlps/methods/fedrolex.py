"""FedRolex: every client trains a window of units that rolls on by one with every round.

Alam, Liu, Yan, Zhang. NeurIPS 2022. https://arxiv.org/abs/2212.01548
"""

from pydantic import Field

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
from fedlps.run.config import Config


class FedRolexParameters(Parameters):
    scaler: bool = Field(default=True, description="while training, a layer's outputs times all units over kept ones")
    clip: float = Field(default=5.0, ge=0, description=objective.SCALED_CLIP)


@register("fedrolex", FedRolexParameters, __doc__)
def fedrolex(parameters: FedRolexParameters, config: Config) -> Method:
    """The ratio is the capability; an entry becomes the plain mean over the clients that hold it."""
    training = objective.cross_entropy()
    return Method(
        ratio=ratio.Capability(),
        download=download.rolling_units(),
        objective=objective.scaled(training, parameters.clip) if parameters.scaler else training,
        aggregation=aggregation.residuals("uniform_holders"),
        evaluation=capable.CapableModels(),
        accounting=accounting.Accounting(down=accounting.held_entries()),
        measure=counts.rows_and_columns(),
    )
