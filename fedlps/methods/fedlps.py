"""FedLPS: every client learns which units of the model it keeps, a bandit how many; both from its own data.

Learnable Sparse Customization in Heterogeneous Edge Computing (algorithms 1 and 2). Where the paper and its published
code differ, the readings are options: `objective.norm`, `importance.*`, `ratio.arms`, `aggregation.*`.
"""

from fedlps.recipe import (
    Method,
    Parameters,
    accounting,
    aggregation,
    download,
    evaluation,
    objective,
    ratio,
    register,
    state,
)
from fedlps.run.config import Config


class FedLPSParameters(Parameters):
    """Its parameters are keys of the configuration: ratio.*, importance.*, objective.*, capability.*."""


@register("fedlps", FedLPSParameters, __doc__)
def fedlps(parameters: FedLPSParameters, config: Config) -> Method:
    """The bandit picks the ratio, importance the units, L_pr pulls to the received model, evaluation is personal."""
    learned = config.importance.pattern == "learned"
    return Method(
        ratio=ratio.configured(config),
        download=download.configured(config.importance.pattern),
        objective=objective.cross_entropy(objective.towards_received(config.objective.mu, config.objective.norm)),
        aggregation=aggregation.residuals(config.aggregation.rule),
        state=(state.redundancies(download.IMPORTANCE),) if learned else (),
        evaluation=evaluation.PersonalModels(),
        accounting=accounting.Accounting(up=accounting.held_entries(pattern_sent=True)),
    )
