"""How the uploads of a round are folded into the global parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fedlps.randomness import Purpose, stream
from fedlps.recipe.federation import Federation, Outcome
from fedlps.recipe.upload import Uploads
from fedlps_kernels import scatter_aggregate

Aggregation = Callable[[Federation, Outcome, Uploads], torch.Tensor]
"""The global parameters (P,) after a round."""


Weight = Callable[[Federation, Outcome, int], float]
"""What the upload of the client at a position weighs, before weights are divided by their sum."""


def residuals(rule: str, weight: Weight | None = None) -> Aggregation:
    """w^{r+1} = w^r - sum_k p_k residual_k [(13)], over the uploads that arrived, in cohort order.

    rule: `residual` weighs by the sizes |D_k|, `uniform` equally; `holders` takes per entry the mean weighted by size
    over the clients that hold it, `uniform_holders` the plain mean over them. weight: instead of the size. Without
    any upload the parameters stay as they are.
    """

    def aggregate(federation: Federation, outcome: Outcome, uploads: Uploads) -> torch.Tensor:
        received = outcome.round.global_parameters
        if len(uploads) == 0:
            return received
        if weight is not None:
            sizes = [weight(federation, outcome, position) for position in uploads.positions]
        else:
            sizes = [len(outcome.round.training[position]) for position in uploads.positions]
        weights = torch.tensor([1.0] * len(sizes) if rule.startswith("uniform") else sizes, dtype=torch.float64)
        folded = scatter_aggregate(
            received,
            uploads.residuals.parameters,
            uploads.residuals.kept,
            uploads.residuals.counts,
            weights / weights.sum(),
            uploads.layout,
            "holders" if rule.endswith("holders") else "sum",
        )
        return with_noise(federation, outcome, folded)

    return aggregate


def with_noise(federation: Federation, outcome: Outcome, parameters: torch.Tensor) -> torch.Tensor:
    """The official code's perturbation, `aggregation.noise` its standard deviation (stream 10)."""
    deviation = federation.config.aggregation.noise
    if deviation == 0:
        return parameters
    rng = stream(federation.config.seed, Purpose.AGGREGATE_NOISE, outcome.round.number)
    noise = torch.from_numpy(rng.normal(0, deviation, parameters.numel()))
    return (parameters.to(torch.float64) + noise).to(parameters.dtype)
