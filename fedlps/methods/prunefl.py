"""PruneFL: one mask for all, made anew now and then from the gradients of what it keeps and what it leaves out.

Jiang, Wang, Valls, Ko, Lee, Leung, Tassiulas. TNNLS 2022. https://arxiv.org/abs/1909.12326
"""

from pydantic import Field

from fedlps.recipe import Method, Parameters, consensus, pruned_alone, reconfiguration, register
from fedlps.run.config import Config

NUMBER = 4  # of the method's streams


class PruneFLParameters(Parameters):
    """When and how the mask is made anew."""

    initial_rounds: int = Field(10, ge=0, description="rounds before round 1 in which one fast client prunes alone")
    interval: int = Field(5, ge=0, description="rounds between changes of the mask; 0: it never changes")
    share: float = Field(0.3, ge=0, le=1, description="share of a layer's smallest weights that may be pruned")
    half_life: float = Field(10_000, gt=0, description="rounds in which that share halves")
    initial_density: float = Field(1.0, gt=0, le=1, description="share of the weights in the first mask")
    official_percentile: bool = Field(False, description="the published code's rule, which tends to keep everything")


@register("prunefl", PruneFLParameters, __doc__)
def prunefl(parameters: PruneFLParameters, config: Config) -> Method:
    """Clients train inside the server's mask; every few rounds it is rebuilt by importance per second."""
    rule = reconfiguration.Reconfiguration(
        parameters.interval, parameters.share, parameters.half_life, parameters.official_percentile
    )
    return Method(
        prologue=pruned_alone.pruned_alone(rule, parameters.initial_rounds, parameters.initial_density, NUMBER),
        download=consensus.masked(),
        objective=reconfiguration.watched(rule),
        aggregation=reconfiguration.reconfigured(rule),
        accounting=pruned_alone.reconfigured_accounting(rule),
        measure=pruned_alone.density_and_cost,
    )
