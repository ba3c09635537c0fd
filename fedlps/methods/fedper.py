"""FedPer: the last layers stay with each client, the server averages the others.

Arivazhagan, Aggarwal, Singh, Choudhary. 2019. https://arxiv.org/abs/1912.00818
"""

from fedlps.recipe import Method, Parameters, aggregation, objective, own_layers, register, upload
from fedlps.run.config import Config


class FedPerParameters(Parameters):
    layers: own_layers.Count = None


@register("fedper", FedPerParameters, __doc__)
def fedper(parameters: FedPerParameters, config: Config) -> Method:
    """Own and shared layers train together; what is tested is the global model with the client's own layers."""
    own = own_layers.OwnLayers(parameters.layers)
    return Method(
        objective=objective.cross_entropy(start=own.start),
        upload=upload.held_entries(own.shared),
        aggregation=aggregation.residuals(config.aggregation.rule),
        evaluation=own,
        accounting=own.accounting(),
        adapt=own.checked,
    )
