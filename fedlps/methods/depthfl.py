"""DepthFL: every client trains the leading blocks it can afford, each with an exit; exits learn from each other.

Kim, Yu, Kim, Moon. ICLR 2023. https://openreview.net/forum?id=pf8RIZTMU58
"""

from pydantic import Field

from fedlps.recipe import Method, Parameters, accounting, aggregation, capable, dynamic, exits, objective, register
from fedlps.run.config import Config


class DepthFLParameters(Parameters):
    ramp: float = Field(default=0.3, gt=0, description="share of the rounds until exits fully learn from each other")
    feddyn: bool = Field(default=False, description="dynamic regularization, of the clients and of the server's mean")
    alpha: float = Field(default=0.1, gt=0, description="its strength")


@register("depthfl", DepthFLParameters, __doc__)
def depthfl(parameters: DepthFLParameters, config: Config) -> Method:
    """The model gets exits; a client holds blocks and heads up to its depth; what is tested answers by all exits."""
    training = exits.mutual(objective.cross_entropy(), parameters.ramp)
    mean = aggregation.residuals("uniform_holders")
    return Method(
        adapt=exits.with_exits,
        download=exits.leading_blocks(),
        objective=dynamic.dynamic(training, parameters.alpha) if parameters.feddyn else training,
        aggregation=dynamic.led(mean, parameters.alpha) if parameters.feddyn else mean,
        evaluation=capable.CapableModels(exits.within_depth),
        accounting=accounting.Accounting(down=accounting.held_entries()),
    )
