"""FedAvg: every client trains the whole model, the server averages by data size.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas. AISTATS 2017. https://arxiv.org/abs/1602.05629 (algorithm 1)
"""

from fedlps.recipe import Method, Parameters, aggregation, register
from fedlps.run.config import Config


class FedAvgParameters(Parameters):
    """It has no parameters of its own."""


@register("fedavg", FedAvgParameters, __doc__, baseline=True)
def fedavg(parameters: FedAvgParameters, config: Config) -> Method:
    """All parts are the defaults."""
    return Method(aggregation=aggregation.residuals(config.aggregation.rule))
