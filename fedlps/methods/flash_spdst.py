"""FLASH (SPDST): a first stage finds how sensitive layers are, then everyone trains one frozen sparse mask.

Babakniya, Kundu, Prakash, Niu, Avestimehr. TMLR 2023. https://arxiv.org/abs/2208.13092
"""

from fedlps.recipe import (
    Method,
    aggregation,
    consensus,
    first_stage,
    mask_accounting,
    mask_metrics,
    prune_regrow,
    register,
)
from fedlps.run.config import Config

NUMBER = 21  # of the method's streams


class FlashSpdstParameters(first_stage.SparseParameters):
    """Those of the first stage."""


@register("flash-spdst", FlashSpdstParameters, __doc__)
def flash_spdst(parameters: FlashSpdstParameters, config: Config) -> Method:
    """The mask never changes after the first stage; a client is told once."""
    return Method(
        prologue=first_stage.layer_densities(parameters, NUMBER),
        download=consensus.masked(),
        objective=prune_regrow.trained_as_held(),
        aggregation=consensus.unchanged(aggregation.residuals("uniform")),
        state=(mask_accounting.TOOK_PART,),
        accounting=mask_accounting.sparse(mask_accounting.first_time, mask_accounting.first_time, parameters.conv_only),
        measure=mask_metrics.agreement(parameters.conv_only, parameters.density),
    )
