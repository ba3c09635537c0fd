"""Hetero-FLASH: as FLASH, but weaker devices hold fewer of the agreed weights; a weight is the mean of its holders.

Babakniya, Kundu, Prakash, Niu, Avestimehr. TMLR 2023. https://arxiv.org/abs/2208.13092
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fedlps.recipe import (
    Method,
    aggregation,
    consensus,
    first_stage,
    mask_accounting,
    mask_metrics,
    prune_regrow,
    register,
    upload,
)
from fedlps.recipe.federation import Round
from fedlps.run.config import Config, Share
from fedlps.run.values import Allowed

NUMBER = 23  # of the method's streams


def _descending(levels: tuple[float, float, float]) -> tuple[float, float, float]:
    if not levels[0] == 1 >= levels[1] >= levels[2]:
        raise ValueError("not descending from 1")
    return levels


class HeteroFlashParameters(first_stage.SparseParameters):
    """Those of the first stage, and of the levels."""

    levels: Annotated[
        tuple[Share, Share, Share], AfterValidator(_descending), Allowed("[1, b, c] with 1 >= b >= c > 0")
    ] = Field((1.0, 0.75, 0.5), description="share of the density held at capability 1, from 1/4, and below")
    base: Literal["jmwst", "spdst"] = Field("jmwst", description="masks change while training, or are frozen")


def level(capability: float) -> int:
    """Capability 1 holds level 0, from 1/4 level 1, below level 2."""
    return 0 if capability >= 1 else 1 if capability >= 1 / 4 else 2


@register("hetero-flash", HeteroFlashParameters, __doc__)
def hetero_flash(parameters: HeteroFlashParameters, config: Config) -> Method:
    """Masks of all levels are cut from one average, so the sparser lie inside the denser."""
    frozen = parameters.base == "spdst"
    densities = [share * parameters.density for share in parameters.levels]

    def density(round_: Round, position: int) -> float:
        return densities[level(round_.capabilities[position]) if round_.number else 0]

    objective = first_stage.pruned_in_rounds(parameters, NUMBER, density=density)
    average = aggregation.residuals("uniform_holders")
    return Method(
        prologue=first_stage.layer_densities(parameters, NUMBER, levels=len(densities)),
        download=consensus.masked(level),
        objective=prune_regrow.trained_as_held() if frozen else objective,
        upload=upload.held_entries(consensus.trained_mask),
        aggregation=consensus.agreed(average, densities, parameters.conv_only, "aggregate", frozen=frozen),
        accounting=mask_accounting.sparse(
            mask_accounting.after(1),
            mask_accounting.before(1),
            parameters.conv_only,
            None if frozen else mask_accounting.scoring(),
        ),
        measure=mask_metrics.agreement(parameters.conv_only, parameters.density),
    )
