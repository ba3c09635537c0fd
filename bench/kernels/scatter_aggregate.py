"""scatter_aggregate: python -m pytest -s bench/kernels/scatter_aggregate.py; on a GPU with -m gpu"""

from collections.abc import Callable

import pytest
import torch

from bench.kernels import device as on
from bench.kernels.masters import Masters
from bench.kernels.measure import compare
from bench.kernels.mixes import cohorts, ratios
from bench.kernels.shapes import SHAPES, cohort, vgg11
from fedlps_kernels import scatter_aggregate
from fedlps_kernels.scatter_aggregate import definition


def on_device(cohort: Masters) -> on.Comparison:
    """The op as a run calls it, its checks included; residuals of all clients lie compact."""
    clients, size = len(cohort.kept), cohort.layout.parameters
    capacity = int(cohort.layout.compact_sizes(cohort.host).max())
    residuals = cohort.random(clients, capacity)
    weights = torch.full((clients,), 1 / clients, dtype=torch.float64, device=cohort.device)
    arguments = cohort.received, residuals, cohort.kept, cohort.counts, weights, cohort.layout

    def ours() -> tuple[list[on.Call], Callable[[], list[torch.Tensor]]]:
        return [lambda: scatter_aggregate(*arguments)], lambda: [scatter_aggregate(*arguments)]

    def by_index_add() -> tuple[list[on.Call], Callable[[], list[torch.Tensor]]]:
        """Positions made beforehand."""
        entries = [cohort.flat(client) for client in range(clients)]

        def call() -> torch.Tensor:
            total = torch.zeros(size, dtype=torch.float64, device=cohort.device)
            for positions, residual, weight in zip(entries, residuals, weights, strict=True):
                total.index_add_(0, positions, residual[: len(positions)].double() * weight)
            return (cohort.received - total).float()

        return [call], lambda: [call()]

    alternatives = [
        on.Alternative("ours", ours, captured=False),
        on.Alternative("index_add, client by client", by_index_add, captured=False),
        on.Alternative("graph, index_add, client by client", by_index_add),
    ]
    moved = 4 * (cohort.entries + 2 * size)
    return on.compare("scatter_aggregate", alternatives, cohort.device, "fp32", moved_bytes=moved)


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


@pytest.mark.gpu
@pytest.mark.parametrize(("clients", "mix"), cohorts())
def test_vgg11_on_a_gpu(gpu, benchmark, clients, mix):
    found = on_device(Masters(vgg11(), ratios(mix, clients), gpu))
    on.report(benchmark, [found], op="scatter_aggregate", clients=clients, mix=mix)
