"""HeteroFL: every client trains the leading units that its device can carry, scaled up while training.

Diao, Ding, Tarokh. ICLR 2021. https://arxiv.org/abs/2010.01264
"""

from pydantic import Field

from fedlps.recipe import Method, Parameters, accounting, aggregation, capable, download, objective, ratio, register
from fedlps.run.config import Config


class HeteroFLParameters(Parameters):
    scaler: bool = Field(default=True, description="while training, a layer's outputs times all units over kept ones")
    clip: float = Field(default=5.0, ge=0, description="largest norm of a scaled step's gradient, unless clip says one")


@register("heterofl", HeteroFLParameters, __doc__)
def heterofl(parameters: HeteroFLParameters, config: Config) -> Method:
    """The ratio is the capability; an entry becomes the plain mean over the clients that hold it."""
    training = objective.cross_entropy()
    return Method(
        ratio=ratio.Capability(),
        download=download.pattern_units("first"),
        objective=objective.scaled(training, parameters.clip) if parameters.scaler else training,
        aggregation=aggregation.residuals("uniform_holders"),
        evaluation=capable.CapableModels(),
        accounting=accounting.Accounting(down=accounting.held_entries()),
    )
