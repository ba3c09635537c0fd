"""Ditto: beside its share in FedAvg, every client trains a model of its own, pulled towards the global one.

Li, Hu, Beirami, Smith. ICML 2021. https://arxiv.org/abs/2012.04221 (algorithm 1)
"""

from pydantic import Field

from fedlps.recipe import Method, Parameters, aggregation, counts, evaluation, objective, personal, register
from fedlps.run.config import Config


class DittoParameters(Parameters):
    """The weight is that of the FedLPS authors' script; Ditto's own default is 1."""

    strength: float = Field(
        default=0.001, ge=0, description="weight of half the squared distance to the received model, lambda"
    )


@register("ditto", DittoParameters, __doc__)
def ditto(parameters: DittoParameters, config: Config) -> Method:
    """Two jobs per client; the own model goes on from where it was, and is what is tested."""
    pull = objective.towards_received(parameters.strength / 2, "sum")
    return Method(
        objective=personal.together(
            objective.cross_entropy(), personal.staying(objective.cross_entropy(pull, personal.own_model))
        ),
        aggregation=aggregation.residuals(config.aggregation.rule),
        evaluation=evaluation.PersonalModels(personal.own_models),
        measure=counts.pulling(),
    )
