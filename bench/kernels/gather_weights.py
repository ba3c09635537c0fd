"""gather_weights: python -m pytest -s bench/kernels/gather_weights.py"""

import pytest
import torch

from bench.kernels.measure import compare
from bench.kernels.shapes import SHAPES, cohort
from fedlps_kernels import gather_weights
from fedlps_kernels.gather_weights import definition


@pytest.mark.parametrize("shape", SHAPES)
def test_gather_weights(benchmark, shape):
    case = cohort(shape)
    parameters = case.values(len(case.kept), case.layout.parameters)
    # positions made beforehand: the best case of torch.gather, which reads 8 bytes of them for 4 of weights
    entries = torch.stack([case.layout.entries(*client) for client in zip(case.kept, case.counts, strict=True)])
    arguments = parameters, case.kept, case.counts, case.layout, case.capacity
    alternatives = {
        "op": lambda: gather_weights(*arguments),
        "gather, positions given": lambda: parameters.gather(1, entries),
        "definition": lambda: definition.gather_weights(*arguments),
    }
    wanted = alternatives["definition"]()
    assert all(torch.equal(call(), wanted) for call in alternatives.values())
    compare(benchmark, alternatives, moved_bytes=2 * 4 * wanted.numel())
