"""What the checks say of devices: a tensor without memory stands for one of another device."""

import pytest
import torch

from fedlps_kernels import Layout, checks
from tests.kernels.compare import refuses

CPU = torch.device("cpu")


def test_refuses_another_device():
    elsewhere = torch.zeros(2, 1, dtype=torch.int32, device="meta")
    with pytest.raises(ValueError, match=r"^counts: got device meta, expected cpu$"):
        checks.counts(elsewhere, torch.tensor([0, 3]), 2, CPU)
    with pytest.raises(ValueError, match=r"^groups: got device meta, expected cpu$"):
        checks.groups(torch.zeros(2, dtype=torch.int64, device="meta"))
    with pytest.raises(ValueError, match=r"^kept: got device meta, expected cpu$"):
        checks.kept(torch.zeros(1, 3, dtype=torch.int32, device="meta"), torch.ones(1, 1), torch.tensor([0, 3]))


def test_refuses_what_is_no_tensor():
    with pytest.raises(TypeError, match=r"^scores: got list, expected a tensor$"):
        checks.tensor("scores", [1.0], {"C": None}, checks.FLOATS)


def test_reads_nothing_past_the_count():
    kept = torch.tensor([[2, 99, -7]], dtype=torch.int32)
    checks.submodels(kept, torch.tensor([[1]], dtype=torch.int32), torch.tensor([0, 3]), 1, CPU)


@pytest.mark.parametrize(
    ("table", "groups", "parameters", "text"),
    [
        ([[0, -1, 3, 2, 1, 0, 6, -1, -1]], [0, 4], 9, "got 3 rows in layer 0, expected 4, the units of group 0"),
        ([[0, 0, 3, 2, 1, 0, 6, -1, -1]], [0, 3], 9, "got 2 columns in layer 0, expected 3, the units of group 0"),
        ([[1, -1, 3, 2, 1, 0, 6, -1, -1]], [0, 3], 9, "got group 1 of layer 0's rows, expected -1 to 0"),
        ([[0, -1, 3, 2, 0, 0, 6, -1, -1]], [0, 3], 9, "got 0 inner in layer 0, expected at least 1"),
        ([[0, -1, 3, 2, 1, 0, 7, -1, -1]], [0, 3], 10, "entries begin at 7, expected 6"),
        ([[0, -1, 3, 2, 1, 0, 5, -1, -1]], [0, 3], 9, "entries begin at 5, expected 6"),
        ([[0, -1, 3, 2, 1, 0, 6, -1, -1]], [0, 3], 8, "parameters: got 8, expected 9"),
        ([[0, -1, 3, 2, 1, 0, 6, -1]], [0, 3], 9, "table: got 8 columns, expected 9"),
        ([[0, -1, 3, 2, 1, 0, 6, -1, -1]], [1, 4], 9, "groups: got [1, 4], expected 0 first"),
    ],
)
def test_a_layout_that_would_be_read_out_of_bounds(table, groups, parameters, text):
    given = {"table": torch.tensor(table), "groups": torch.tensor(groups), "parameters": parameters}
    refuses(Layout, given, {}, ValueError, text)


def test_a_layout_of_other_dtype():
    with pytest.raises(TypeError, match=r"table: got torch\.int32 on cpu, expected torch\.int64 on cpu"):
        Layout(torch.zeros(1, 9, dtype=torch.int32), torch.tensor([0]), 0)


def test_fresh_memory_is_poisoned():
    """What the other tests of this folder rely on."""
    assert torch.empty(100).isnan().all()
    assert (torch.empty(100, dtype=torch.int32) == torch.iinfo(torch.int32).max).all()
