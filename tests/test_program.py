"""Counts, layouts and initial parameters of a program."""

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedlps.models import chain
from fedlps.program import initial_parameters
from fedlps.trace import derive, flat_parameters

STEPS = [["conv", 5, 3, 1, 0], ["maxpool", 2], ["relu"], ["flatten"], ["linear", 7], ["relu"], ["linear", 3]]
PROGRAM = derive(chain((2, 8, 6), STEPS), (2, 8, 6))


@pytest.mark.parametrize(
    ("ratio", "counts"), [(1.0, (5, 7)), (0.6, (3, 4)), (1 / 7, (1, 1)), (1e-9, (1, 1)), (0.2, (1, 1))]
)
def test_counts_are_floored_and_at_least_one(ratio: float, counts: tuple[int, ...]) -> None:
    assert PROGRAM.counts(ratio) == counts


def test_product_that_should_be_whole_loses_no_unit() -> None:
    program = derive(chain((1, 1, 2), [["flatten"], ["linear", 3], ["relu"], ["linear", 2]]), (1, 1, 2))
    assert program.counts(2 / 3) == (2,)


@given(st.data())
def test_entries_are_the_mask_of_rows_and_columns(data: st.DataObject) -> None:
    layout = PROGRAM.layout()
    kept = [sorted(data.draw(st.sets(st.integers(0, group.units - 1), min_size=1))) for group in PROGRAM.groups]
    table = torch.full((PROGRAM.units,), -1, dtype=torch.int32)
    for first, units in zip(layout.groups.tolist(), kept, strict=False):
        table[first : first + len(units)] = torch.tensor(units)
    gates = [numpy.isin(numpy.arange(group.units), units) for group, units in zip(PROGRAM.groups, kept, strict=True)]
    mask = []
    for layer in PROGRAM.layers:
        rows = gates[layer.row_group] if layer.row_group >= 0 else numpy.ones(layer.rows, bool)
        columns = gates[layer.column_group] if layer.column_group >= 0 else numpy.ones(layer.columns, bool)
        mask += [numpy.outer(rows, columns.repeat(layer.inner)).ravel(), rows]
    entries = layout.entries(table, torch.tensor([len(units) for units in kept]))
    assert entries.tolist() == numpy.flatnonzero(numpy.concatenate(mask)).tolist()
    assert layout.compact_sizes(torch.tensor([[len(units) for units in kept]])).tolist() == [len(entries)]


def test_parameters_outside_layers_are_kept_whole_and_start_as_built() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2))
    nn.init.constant_(module[2].weight, 0.5)
    program = derive(module, (1, 2, 2))
    assert set(program.plain) == {"2.weight", "2.bias"}
    values = initial_parameters(program, seed=3)
    assert values[25:35].tolist() == [0.5] * 5 + [0.0] * 5
    assert (values[:25] != flat_parameters(module)[:25]).all()
    layout = program.layout()
    assert layout.entries(torch.empty(0, dtype=torch.int32), torch.empty(0, dtype=torch.int32)).tolist() == list(
        range(47)
    )


def test_layer_without_bias_has_no_draws_for_it() -> None:
    with_bias = derive(nn.Sequential(nn.Flatten(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)), (1, 1, 3))
    without = derive(nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False), nn.ReLU(), nn.Linear(2, 2)), (1, 1, 3))
    first, second = initial_parameters(with_bias, 1), initial_parameters(without, 1)
    assert first[:6].tolist() == second[:6].tolist()
    # the output layer's bound differs, so only its position in the stream can be compared
    numpy.testing.assert_allclose(first[6:8] * numpy.sqrt(3), second[6:8] * numpy.sqrt(2), rtol=1e-14)
