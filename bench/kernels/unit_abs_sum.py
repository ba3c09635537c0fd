"""unit_abs_sum: python -m pytest -s bench/kernels/unit_abs_sum.py; on a GPU with -m gpu"""

import pytest
import torch

from bench.kernels import device as on
from bench.kernels.masters import Masters
from bench.kernels.measure import compare
from bench.kernels.mixes import cohorts, ratios
from bench.kernels.shapes import SHAPES, cohort, vgg11
from fedlps_kernels import Layout, unit_abs_sum
from fedlps_kernels.layout import ROW_GROUP
from fedlps_kernels.unit_abs_sum import definition


def by_norm(parameters: torch.Tensor, layers: list[list[int]]) -> torch.Tensor:
    """One vector norm per layer, without absolute values in memory."""
    views = []
    for _, _, rows, columns, inner, weight, *_ in layers:
        view = parameters[:, weight : weight + rows * columns * inner].view(len(parameters), rows, columns * inner)
        views.append(torch.linalg.vector_norm(view, ord=1, dim=2))
    return torch.cat(views, dim=1)


def on_device(cohort: Masters) -> on.Comparison:
    """All masters of a cohort; the same for any capabilities."""
    masters, layers = cohort.masters, thinned(cohort.layout)
    sums = torch.zeros(len(masters), cohort.layout.units, device=cohort.device)

    def each() -> list[torch.Tensor]:
        return [by_norm(own[None], layers)[0] for own in masters]

    def together() -> torch.Tensor:
        return by_norm(masters, layers)

    alternatives = [
        on.Alternative("ours", lambda: ([lambda: cohort.weights.unit_abs_sum(masters, sums)], lambda: [sums])),
        on.Alternative("client by client", lambda: ([each], lambda: [torch.stack(each())]), captured=False),
        on.Alternative("graph, client by client", lambda: ([each], lambda: [torch.stack(each())])),
        on.Alternative("vector_norm per layer", lambda: ([together], lambda: [together()])),
    ]
    moved = masters.nbytes + sums.nbytes
    return on.compare("unit_abs_sum", alternatives, cohort.device, "fp32", moved_bytes=moved)


def thinned(layout: Layout) -> list[list[int]]:
    """The layers that have units."""
    return [layer for layer in layout.table.tolist() if layer[ROW_GROUP] >= 0]


@pytest.mark.parametrize("shape", SHAPES)
def test_unit_abs_sum(benchmark, shape):
    case = cohort(shape)
    parameters = case.values(len(case.kept), case.layout.parameters)
    layers = thinned(case.layout)
    alternatives = {
        "op": lambda: unit_abs_sum(parameters, case.layout),
        "vector_norm": lambda: by_norm(parameters, layers),
        "definition": lambda: definition.unit_abs_sum(parameters, case.layout),
    }
    wanted = definition.unit_abs_sum(parameters.double(), case.layout).float()
    for call in alternatives.values():
        torch.testing.assert_close(call(), wanted, rtol=1e-5, atol=0)
    compare(benchmark, alternatives, moved_bytes=4 * parameters.numel())


@pytest.mark.gpu
@pytest.mark.parametrize(("clients", "mix"), cohorts())
def test_vgg11_on_a_gpu(gpu, benchmark, clients, mix):
    found = on_device(Masters(vgg11(), ratios(mix, clients), gpu))
    on.report(benchmark, [found], op="unit_abs_sum", clients=clients, mix=mix)
