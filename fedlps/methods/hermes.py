"""Hermes: every client drops units of small norm while it is accurate; the server averages over holders.

Li, Sun, Zeng, Zhang, Li, Chen. MobiCom 2021. https://doi.org/10.1145/3447993.3483278
"""

from pydantic import Field

from fedlps.recipe import (
    Method,
    Parameters,
    accounting,
    aggregation,
    counts,
    evaluation,
    gate,
    objective,
    register,
    shrinking,
    terms,
)
from fedlps.run.config import Config


class HermesParameters(Parameters):
    """When to drop units, and how many."""

    start: float | None = Field(
        default=None, ge=0, description="validation accuracy to exceed before dropping; null: the published one"
    )
    end: float | None = Field(
        default=None, ge=0, le=1, description="share of the parameters at which a client stops; null: the published one"
    )
    share: float = Field(default=0.1, ge=0, le=1, description="quantile of a layer's unit norms below which they go")
    penalty: float = Field(default=0.001, ge=0, description="weight of the group lasso over units, lambda")


@register("hermes", HermesParameters, __doc__)
def hermes(parameters: HermesParameters, config: Config) -> Method:
    """The unit set is the client's state; what it holds travels both ways, and is what is tested."""
    start = gate.published_threshold(config.data.name) if parameters.start is None else parameters.start
    end = shrinking.published_end(config.data.name) if parameters.end is None else parameters.end
    return Method(
        download=shrinking.ShrinkingUnits(start, end, parameters.share),
        objective=terms.each(objective.cross_entropy(), penalty=parameters.penalty),
        aggregation=aggregation.residuals("uniform_holders"),
        state=(shrinking.held_units(),),
        evaluation=evaluation.ComposedModels(shrinking.on_own_units),
        accounting=accounting.Accounting(
            up=shrinking.uploaded_bytes,
            down=shrinking.received_bytes,
            besides=shrinking.validation_flops(end),
        ),
        measure=counts.rows_and_columns(),
    )
