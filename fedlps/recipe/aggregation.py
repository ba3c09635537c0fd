"""How the uploads of a round are folded into the global parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from fedlps.engine.result import Submodels
from fedlps.randomness import Purpose, stream
from fedlps.recipe.federation import Federation, Round
from fedlps_kernels import scatter_aggregate

Aggregation = Callable[[Federation, Round, Submodels, Sequence[int]], torch.Tensor]


def residuals(rule: str) -> Aggregation:
    """w^{r+1} = w^r - sum_k p_k residual_k [(13)], over the uploads that arrived, in cohort order.

    rule: `residual` weighs by the sizes |D_k|, `uniform` equally, `holders` takes per entry the mean weighted by size
    over the clients that hold it. Without any upload the parameters stay as they are.
    """

    def aggregate(federation: Federation, round_: Round, uploads: Submodels, sizes: Sequence[int]) -> torch.Tensor:
        if len(uploads) == 0:
            return round_.global_parameters
        weights = torch.tensor([1.0] * len(sizes) if rule == "uniform" else sizes, dtype=torch.float64)
        folded = scatter_aggregate(
            round_.global_parameters,
            uploads.parameters,
            uploads.kept,
            uploads.counts,
            weights / weights.sum(),
            federation.layout,
            "holders" if rule == "holders" else "sum",
        )
        return _with_noise(federation, round_, folded)

    return aggregate


def _with_noise(federation: Federation, round_: Round, parameters: torch.Tensor) -> torch.Tensor:
    """The official code's perturbation, `aggregation.noise` its standard deviation (stream 10)."""
    deviation = federation.config.aggregation.noise
    if deviation == 0:
        return parameters
    rng = stream(federation.config.seed, Purpose.AGGREGATE_NOISE, round_.number)
    noise = torch.from_numpy(rng.normal(0, deviation, parameters.numel()))
    return (parameters.to(torch.float64) + noise).to(parameters.dtype)
