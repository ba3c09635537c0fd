"""LotteryFL: each client prunes its own lottery ticket of the model, and shares only that.

Li, Sun, Wang, Duan, Li, Chen, Li. SEC 2021. https://arxiv.org/abs/2008.03371
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
    lottery,
    personal_mask,
    register,
)
from fedlps.run.config import Config


class LotteryFLParameters(Parameters):
    """When to prune, and how much."""

    start: float | None = Field(
        None, ge=0, description="validation accuracy to exceed before pruning; null: the published one for the data"
    )
    end: float = Field(0.5, gt=0, le=1, description="rate at which a client prunes no more; it starts at 1")
    share: float = Field(0.1, gt=0, lt=1, description="share of a layer's weights that a pruning removes")


@register("lotteryfl", LotteryFLParameters, __doc__)
def lotteryfl(parameters: LotteryFLParameters, config: Config) -> Method:
    """Gate, prune, rewind, train; entries are averaged over the clients that hold them."""
    start = gate.published_threshold(config.data.name) if parameters.start is None else parameters.start
    tickets = lottery.Tickets(start, parameters.end, parameters.share)
    first = personal_mask.all_ones
    return Method(
        ratio=tickets,
        download=tickets.held(),
        objective=lottery.rewound(),
        aggregation=aggregation.residuals("uniform_holders"),
        state=(personal_mask.ENDED,),
        evaluation=evaluation.ComposedModels(personal_mask.composed(first)),
        accounting=accounting.Accounting(
            up=personal_mask.sent_bytes(first), down=personal_mask.received_bytes(first), besides=tickets.gate_flops
        ),
        measure=counts.sparse_kernels(),
    )
