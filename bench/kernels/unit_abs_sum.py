"""unit_abs_sum: python -m pytest -s bench/kernels/unit_abs_sum.py"""

import pytest
import torch

from bench.kernels.measure import compare
from bench.kernels.shapes import SHAPES, cohort
from fedlps_kernels import unit_abs_sum
from fedlps_kernels.layout import ROW_GROUP
from fedlps_kernels.unit_abs_sum import definition


@pytest.mark.parametrize("shape", SHAPES)
def test_unit_abs_sum(benchmark, shape):
    case = cohort(shape)
    parameters = case.values(len(case.kept), case.layout.parameters)
    layers = [layer for layer in case.layout.table.tolist() if layer[ROW_GROUP] >= 0]

    def by_norm() -> torch.Tensor:
        """One vector norm per layer, without absolute values in memory."""
        views = []
        for _, _, rows, columns, inner, weight, *_ in layers:
            view = parameters[:, weight : weight + rows * columns * inner].view(len(parameters), rows, columns * inner)
            views.append(torch.linalg.vector_norm(view, ord=1, dim=2))
        return torch.cat(views, dim=1)

    alternatives = {
        "op": lambda: unit_abs_sum(parameters, case.layout),
        "vector_norm": by_norm,
        "definition": lambda: definition.unit_abs_sum(parameters, case.layout),
    }
    wanted = definition.unit_abs_sum(parameters.double(), case.layout).float()
    for call in alternatives.values():
        torch.testing.assert_close(call(), wanted, rtol=1e-5, atol=0)
    compare(benchmark, alternatives, moved_bytes=4 * parameters.numel())
