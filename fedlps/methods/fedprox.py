"""FedProx: FedAvg whose clients are pulled towards the model that they received.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith. MLSys 2020. https://arxiv.org/abs/1812.06127 (algorithm 2)
"""

from pydantic import Field

from fedlps.recipe import Method, Parameters, aggregation, counts, objective, register
from fedlps.run.config import Config


class FedProxParameters(Parameters):
    """All clients do the same number of epochs."""

    mu: float = Field(default=0.001, ge=0, description="weight of half the squared distance to the received model")


@register("fedprox", FedProxParameters, __doc__)
def fedprox(parameters: FedProxParameters, config: Config) -> Method:
    """One pull, over all parameters."""
    return Method(
        objective=objective.cross_entropy(objective.towards_received(parameters.mu / 2, "sum")),
        aggregation=aggregation.residuals(config.aggregation.rule),
        measure=counts.pulling(),
    )
