"""FedAvg-FT: FedAvg; before it is tested, every client fine-tunes the global model for one epoch on its own data.

The plainest way to a personal model. Yu, Bagdasaryan, Shmatikov. 2020. https://arxiv.org/abs/2002.04758
"""

from fedlps.randomness import Purpose
from fedlps.recipe import Method, Parameters, adaptation, aggregation, register
from fedlps.run.config import Config

NUMBER = 25  # of its streams: draw 0 is the order of the samples that a client fine-tunes on


class FedAvgFTParameters(Parameters):
    """It has no parameters of its own."""


@register("fedavg-ft", FedAvgFTParameters, __doc__)
def fedavg_ft(parameters: FedAvgFTParameters, config: Config) -> Method:
    """Only the evaluation differs from FedAvg; the fine-tuned models are thrown away."""
    return Method(
        aggregation=aggregation.residuals(config.aggregation.rule),
        evaluation=adaptation.AdaptedModels(Purpose.METHOD + NUMBER, epochs=1),
    )
