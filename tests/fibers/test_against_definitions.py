"""The CUDA sources, run by fibers, against the definitions: every order of threads gives the same bits."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings

from fedlps_kernels import Layout
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.select_units import cuda as selection
from fedlps_kernels.select_units import definition as selection_defined
from tests.fibers.compare import assert_near
from tests.fibers.exercise import everything, several_turns, wide_case
from tests.kernels.cases import Case, cases, small_case
from tests.kernels.compare import assert_same

DTYPES = [torch.float32, torch.float64]


def one_unit() -> Case:
    """A row of one entry, kept by the first client alone."""
    layout = Layout(torch.tensor([[0, -1, 1, 1, 1, 0, -1, -1, -1]]), torch.tensor([0, 1]), 1)
    counts = torch.tensor([[1], [0]], dtype=torch.int32)
    kept = torch.tensor([[0], [-1]], dtype=torch.int32)
    return Case(layout, kept, counts, torch.Generator().manual_seed(0))


@settings(max_examples=12)
@given(case=cases())
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_drawn_cohorts(fibers, dtype, case):
    for name, got, want in everything(case, dtype):
        assert_near(name, got, want)


@pytest.mark.parametrize(
    ("made", "dtype"),
    [*product([small_case, several_turns, one_unit], DTYPES), (wide_case, torch.float32)],
)
def test_every_order_gives_the_same_bits(in_every_order, made, dtype):
    first = None
    for order in in_every_order():
        results = []
        for name, got, want in everything(made(), dtype):
            assert_near(f"{name}, {order}", got, want)
            results.append(got)
        first = first or results
        for got, before in zip(results, first, strict=True):
            assert_same(order, got, before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("units", [1, 31, 32, 33, 512, 513, 700])
def test_selection_by_ties(in_every_order, dtype, units):
    """Few different scores, both zeros and infinities among them; more units than a warp's registers hold."""
    generator = torch.Generator().manual_seed(units)
    levels = torch.tensor([0.0, -0.0, 1.5, -1.5, torch.inf, -torch.inf, 1e-45, 3e38], dtype=dtype)
    counts = torch.tensor([[0], [1], [units // 2], [units - 1], [units]], dtype=torch.int32)
    scores = levels[torch.randint(len(levels), (len(counts), units), generator=generator)]
    groups = torch.tensor([0, units])
    model = OnDevice.of_groups(groups, "cpu")
    want = selection_defined.select_units(scores, counts, groups)
    for order in in_every_order():
        changed = torch.full_like(counts, 77)
        kept = torch.full(scores.shape, 77, dtype=torch.int32)
        selection.select_units(scores, counts, model, kept, changed=changed)
        assert_same(order, kept, want)
        assert_same("all are new", changed, torch.ones_like(counts))
        kept[1, 0] = want[1, 0] - 1
        selection.select_units(scores, counts, model, kept, changed=changed)
        assert_same("again", kept, want)
        assert changed.flatten().tolist() == [0, 1, 0, 0, 0]
