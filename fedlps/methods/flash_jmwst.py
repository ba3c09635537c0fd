"""FLASH (JMWST): clients prune and regrow one sparse mask while they train, the server agrees on the next one.

Babakniya, Kundu, Prakash, Niu, Avestimehr. TMLR 2023. https://arxiv.org/abs/2208.13092
"""

from typing import Literal

from pydantic import Field

from fedlps.recipe import Method, aggregation, consensus, first_stage, mask_accounting, mask_metrics, register, upload
from fedlps.run.config import Config

NUMBER = 22  # of the method's streams


class FlashJmwstParameters(first_stage.SparseParameters):
    """Those of the first stage, and of the agreement."""

    interval: int = Field(1, ge=1, description="rounds from one agreement on the mask to the next")
    sensitivity: consensus.Sensitivity = Field(
        "clients", description="weights a layer keeps: as many as its clients' masks, or as the aggregate's nonzeros"
    )
    average: Literal["clients", "holders"] = Field(
        "clients", description="a weight is the mean over all clients, or over those whose mask keeps it"
    )


@register("flash-jmwst", FlashJmwstParameters, __doc__)
def flash_jmwst(parameters: FlashJmwstParameters, config: Config) -> Method:
    """The server's mask is made of the largest averaged weights, layer by layer."""
    holders = parameters.average == "holders"
    average = aggregation.residuals("uniform_holders" if holders else "uniform")
    options = (parameters.conv_only, parameters.sensitivity, parameters.interval)
    return Method(
        prologue=first_stage.layer_densities(parameters, NUMBER),
        download=consensus.masked(),
        objective=first_stage.pruned_in_rounds(parameters, NUMBER, parameters.interval),
        upload=upload.held_entries(consensus.trained_mask if holders else consensus.everything),
        aggregation=consensus.agreed(average, [parameters.density], *options),
        accounting=mask_accounting.sparse(
            mask_accounting.after(parameters.interval),
            mask_accounting.before(parameters.interval),
            parameters.conv_only,
            mask_accounting.scoring(parameters.interval),
        ),
        measure=mask_metrics.agreement(parameters.conv_only, parameters.density),
    )
