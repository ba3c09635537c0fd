"""FedRep: the last layers stay with each client, who trains them first and then, with them fixed, the shared ones.

Collins, Hassani, Mokhtari, Shakkottai. ICML 2021. https://arxiv.org/abs/2102.07078 (algorithm 1)
"""

from pydantic import Field

from fedlps.recipe import Method, Parameters, aggregation, objective, own_layers, register, upload
from fedlps.run.config import Config


class FedRepParameters(Parameters):
    """All steps together are as many as FedAvg's; with five epochs, the own layers train for two of them."""

    layers: own_layers.Count = None
    head: float = Field(
        default=0.4, ge=0, le=1, description="share of the steps that train the own layers, rounded down"
    )


@register("fedrep", FedRepParameters, __doc__)
def fedrep(parameters: FedRepParameters, config: Config) -> Method:
    """As FedPer, but own and shared layers train one after the other."""
    own = own_layers.OwnLayers(parameters.layers)
    return Method(
        objective=own_layers.in_turn(own, objective.cross_entropy(start=own.start), parameters.head),
        upload=upload.held_entries(own.shared),
        aggregation=aggregation.residuals(config.aggregation.rule),
        evaluation=own,
        accounting=own.accounting(),
        adapt=own.checked,
    )
