"""Oort: takes the clients that have the highest losses and are fast enough, and explores the others.

Lai, Zhu, Madhyastha, Chowdhury. OSDI 2021. https://arxiv.org/abs/2010.06081 (algorithm 1)
"""

from pydantic import Field

from fedlps.randomness import Purpose
from fedlps.recipe import Method, Parameters, accounting, aggregation, objective, over_commit, register, terms, utility
from fedlps.run.config import Config

NUMBER = 2  # of its streams: draw 0 exploits, 1 explores, 2 fills up


class OortParameters(Parameters):
    """The values of the paper; where its code has others, the paper's."""

    exploration: float = Field(default=0.9, ge=0, le=1, description="share of clients explored at the start")
    exploration_decay: float = Field(default=0.98, gt=0, le=1, description="factor on it per round")
    exploration_least: float = Field(default=0.2, ge=0, le=1, description="what it never falls below")
    cutoff: float = Field(default=0.95, gt=0, le=1, description="share of the last needed score that suffices")
    clip: float = Field(default=0.95, gt=0, le=1, description="quantile at which utilities are cut")
    penalty: float = Field(default=2.0, ge=0, description="power of the penalty on slow clients, alpha")
    percentile: float = Field(default=10.0, ge=0, le=100, description="of all durations, which one is fast enough")
    percentile_step: float = Field(default=5.0, ge=0, description="added to it when utility falls")
    window: int = Field(default=20, ge=1, description="rounds between two looks at the utility, W")
    over_commit: float = Field(default=1.0, ge=1, description="times as many start as are needed; the first done count")
    blacklist: int = Field(default=0, ge=0, description="who took part more often is not exploited again; 0: off")


@register("oort", OortParameters, __doc__)
def oort(parameters: OortParameters, config: Config) -> Method:
    """Selection learns from the squared losses that clients report; all else is plain averaging."""
    return Method(
        selection=utility.Utility(
            purpose=Purpose.METHOD + NUMBER,
            exploration=parameters.exploration,
            decay=parameters.exploration_decay,
            least=parameters.exploration_least,
            cutoff=parameters.cutoff,
            clip=parameters.clip,
            penalty=parameters.penalty,
            percentile=parameters.percentile,
            step=parameters.percentile_step,
            window=parameters.window,
            over_commit=parameters.over_commit,
            blacklist=parameters.blacklist,
        ),
        objective=terms.probing(objective.cross_entropy(), "squared_losses"),
        upload=over_commit.first_uploads(),
        aggregation=aggregation.residuals(config.aggregation.rule),
        accounting=accounting.Accounting(up=accounting.with_scalar),
        duration=over_commit.until_enough,
    )
