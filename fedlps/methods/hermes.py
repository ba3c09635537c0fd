"""Hermes: every client drops units of small norm while it is accurate; the server averages over holders.

Li, Sun, Zeng, Zhang, Li, Chen. MobiCom 2021. https://doi.org/10.1145/3447993.3483278
"""

from pydantic import Field

from fedlps.recipe import Method, Parameters, accounting, aggregation, evaluation, objective, register, shrinking, terms
from fedlps.run.config import Config


class HermesParameters(Parameters):
    """The thresholds are those of the FedLPS authors' script for MNIST."""

    accuracy: float = Field(default=0.5, ge=0, description="validation accuracy above which a client drops units")
    share: float = Field(default=0.5, ge=0, le=1, description="share of the parameters at which it stops")
    step: float = Field(default=10.0, ge=0, le=100, description="percentile of a layer's unit norms below which")
    penalty: float = Field(default=0.001, ge=0, description="weight of the group lasso over units, lambda")


@register("hermes", HermesParameters, __doc__)
def hermes(parameters: HermesParameters, config: Config) -> Method:
    """The unit set is the client's state; what it holds travels both ways, and is what is tested."""
    units = shrinking.ShrinkingUnits(parameters.accuracy, parameters.share, parameters.step)
    return Method(
        download=units,
        objective=terms.each(objective.cross_entropy(), penalty=parameters.penalty),
        aggregation=aggregation.residuals("uniform_holders"),
        state=(shrinking.held_units(),),
        evaluation=evaluation.ComposedModels(shrinking.on_own_units),
        accounting=accounting.Accounting(
            up=shrinking.uploaded_bytes,
            down=shrinking.received_bytes,
            besides=shrinking.validation_flops(parameters.share),
        ),
    )
