"""DepthFL: every client trains the leading blocks it can afford, each with an exit; exits learn from each other.

Kim, Yu, Kim, Moon. ICLR 2023. https://openreview.net/forum?id=pf8RIZTMU58
"""

from pydantic import Field

from fedlps.recipe import Method, Parameters, accounting, aggregation, capable, exits, objective, register
from fedlps.run.config import Config


class DepthFLParameters(Parameters):
    """The plain variant, without FedDyn."""

    ramp: float = Field(default=0.3, gt=0, description="share of the rounds until exits fully learn from each other")


@register("depthfl", DepthFLParameters, __doc__)
def depthfl(parameters: DepthFLParameters, config: Config) -> Method:
    """The model gets exits; a client holds blocks and heads up to its depth; what is tested answers by all exits."""
    return Method(
        adapt=exits.with_exits,
        download=exits.leading_blocks(),
        objective=exits.mutual(objective.cross_entropy(), parameters.ramp),
        aggregation=aggregation.residuals("uniform_holders"),
        evaluation=capable.CapableModels(exits.within_depth),
        accounting=accounting.Accounting(down=accounting.held_entries()),
    )
