"""HeteroFL: every client trains the leading units that its device can carry, scaled up while training.

Diao, Ding, Tarokh. ICLR 2021. https://arxiv.org/abs/2010.01264
"""

from functools import partial

from pydantic import Field

from fedlps.recipe import (
    Method,
    Parameters,
    accounting,
    aggregation,
    capable,
    counts,
    download,
    objective,
    present_classes,
    ratio,
    register,
)
from fedlps.run.config import Config


class HeteroFLParameters(Parameters):
    scaler: bool = Field(default=True, description="while training, a layer's outputs times all units over kept ones")
    clip: float = Field(default=5.0, ge=0, description=objective.SCALED_CLIP)
    masked_ce: bool = Field(default=False, description="a client leaves out the classes that it has no samples of")
    ends_full: bool = Field(
        default=False,
        description="the last hidden layer is not thinned, nor the first if all are convolutions, as the FedLPS code",
    )


@register("heterofl", HeteroFLParameters, __doc__)
def heterofl(parameters: HeteroFLParameters, config: Config) -> Method:
    """The ratio is the capability; an entry becomes the plain mean over the clients that hold it."""
    whole = download.end_groups if parameters.ends_full else None
    units = download.pattern_units("first", whole)
    training = objective.cross_entropy(start=present_classes.zeroed if parameters.masked_ce else None)
    return Method(
        ratio=ratio.Capability(),
        download=present_classes.without_absent(units) if parameters.masked_ce else units,
        objective=objective.scaled(training, parameters.clip) if parameters.scaler else training,
        aggregation=aggregation.residuals("uniform_holders"),
        evaluation=capable.CapableModels(partial(capable.on_leading_units, whole=whole)),
        accounting=accounting.Accounting(down=accounting.held_entries(), weights=accounting.held_rows),
        measure=counts.rows_and_columns(),
    )
