"""select_units: python -m pytest -s bench/kernels/select_units.py"""

import pytest
import torch

from bench.kernels.measure import compare
from bench.kernels.shapes import SHAPES, cohort
from fedlps_kernels import select_units
from fedlps_kernels.select_units import definition


def by_topk(scores: torch.Tensor, counts: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """One topk per group, for clients that all keep as many; breaks ties as it likes."""
    kept = torch.full(scores.shape, -1, dtype=torch.int32)
    edges = groups.tolist()
    for group, count in enumerate(counts[0].tolist()):
        chosen = scores[:, edges[group] : edges[group + 1]].topk(count).indices
        kept[:, edges[group] : edges[group] + count] = chosen.sort().values.int()
    return kept


@pytest.mark.parametrize("shape", SHAPES)
def test_select_units(benchmark, shape):
    case = cohort(shape)
    arguments = case.values(*case.kept.shape), case.counts, case.layout.groups
    alternatives = {
        "op": lambda: select_units(*arguments),
        "topk": lambda: by_topk(*arguments),
        "definition": lambda: definition.select_units(*arguments),
    }
    wanted = alternatives["definition"]()
    assert all(torch.equal(call(), wanted) for call in alternatives.values())
    compare(benchmark, alternatives, moved_bytes=8 * case.kept.numel())
