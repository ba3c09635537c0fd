"""eFD: Federated Dropout, extended: every client trains random units, as many as its device can carry.

Caldas, Konecny, McMahan, Talwalkar. 2018. https://arxiv.org/abs/1812.07210 (a ratio per client: Horvath et al.,
NeurIPS 2021, https://arxiv.org/abs/2102.13451)
"""

from fedlps.randomness import Purpose
from fedlps.recipe import Method, Parameters, accounting, aggregation, capable, counts, download, ratio, register
from fedlps.run.config import Config

NUMBER = 6  # of its streams


class ExtendedDropoutParameters(Parameters):
    """It has no parameters of its own."""


@register("efd", ExtendedDropoutParameters, __doc__)
def efd(parameters: ExtendedDropoutParameters, config: Config) -> Method:
    """The ratio is the capability; an entry becomes the mean, weighted by data, over the clients that hold it."""
    return Method(
        ratio=ratio.Capability(),
        download=download.random_units(Purpose.METHOD + NUMBER),
        aggregation=aggregation.residuals("holders"),
        evaluation=capable.CapableModels(),
        accounting=accounting.Accounting(down=accounting.held_entries()),
        measure=counts.rows_and_columns(),
    )
