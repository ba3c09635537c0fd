"""scatter_aggregate: python -m pytest -s bench/kernels/scatter_aggregate.py"""

import pytest
import torch

from bench.kernels.measure import compare
from bench.kernels.shapes import SHAPES, cohort
from fedlps_kernels import scatter_aggregate
from fedlps_kernels.scatter_aggregate import definition


@pytest.mark.parametrize("shape", SHAPES)
def test_scatter_aggregate(benchmark, shape):
    case = cohort(shape)
    clients, size = len(case.kept), case.layout.parameters
    parameters, residuals = case.values(size), case.values(clients, case.capacity)
    weights = torch.full((clients,), 1 / clients, dtype=torch.float64)
    entries = torch.stack([case.layout.entries(*client) for client in zip(case.kept, case.counts, strict=True)])

    def by_index_add() -> torch.Tensor:
        """Positions made beforehand; on one thread the order is the cohort's as well."""
        total = torch.zeros(size, dtype=torch.float64)
        for positions, residual, weight in zip(entries, residuals, weights, strict=True):
            total.index_add_(0, positions, residual.double() * weight)
        return (parameters.double() - total).float()

    arguments = parameters, residuals, case.kept, case.counts, weights, case.layout
    alternatives = {
        "op": lambda: scatter_aggregate(*arguments),
        "index_add, given": by_index_add,
        "definition": lambda: definition.scatter_aggregate(*arguments),
    }
    wanted = alternatives["definition"]()
    assert all(torch.equal(call(), wanted) for call in alternatives.values())
    compare(benchmark, alternatives, moved_bytes=4 * (residuals.numel() + 2 * size))
