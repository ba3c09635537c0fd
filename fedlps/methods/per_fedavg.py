"""Per-FedAvg: learns a model from which one step on a client's data leads to a good one.

Fallah, Mokhtari, Ozdaglar. NeurIPS 2020. https://arxiv.org/abs/2002.07948 (algorithm 1)
"""

from typing import Literal

from pydantic import Field

from fedlps.randomness import Purpose
from fedlps.recipe import Method, Parameters, accounting, adaptation, aggregation, objective, register
from fedlps.run.config import Config

NUMBER = 15  # of its streams: draw 0 is the order of the samples that a client adapts on


class PerFedAvgParameters(Parameters):
    alpha: float = Field(default=0.01, ge=0, description="learning rate of the step that clients will adapt by")
    gradient: Literal["first-order", "hessian-free"] = Field(
        default="first-order", description="whether the change of the gradient with that step is left out or estimated"
    )
    delta: float = Field(default=0.001, gt=0, description="distance at which hessian-free takes gradients")
    adapt_steps: int | None = Field(
        default=None, ge=1, description="steps of rate alpha before testing; null: all epochs at lr, as in training"
    )


@register("per-fedavg", PerFedAvgParameters, __doc__)
def per_fedavg(parameters: PerFedAvgParameters, config: Config) -> Method:
    """Every step looks ahead from one batch to the next; a copy of the global model is adapted and tested."""
    delta = parameters.delta if parameters.gradient == "hessian-free" else None
    steps = parameters.adapt_steps
    segment = adaptation.configured if steps is None else adaptation.plain(parameters.alpha, steps)
    return Method(
        objective=adaptation.looking_ahead(objective.cross_entropy(), parameters.alpha, delta),
        aggregation=aggregation.residuals(config.aggregation.rule),
        evaluation=adaptation.AdaptedModels(Purpose.METHOD + NUMBER, config.epochs, segment),
        accounting=accounting.Accounting(passes=2),
    )
