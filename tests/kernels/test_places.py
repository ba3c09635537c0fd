"""Every form of places leads to the same entries."""

import pytest
import torch
from hypothesis import given

from fedlps_kernels import Layout, gather_weights, places
from fedlps_kernels.layout import BIAS, COLUMN_GROUP, ROW_GROUP, SHIFT
from tests.kernels.cases import Case, cases, small_case


def of_dense(case: Case) -> torch.Tensor:
    return case.values(case.clients, case.layout.parameters)


def units(case: Case, client: int, layer: int, field: int, count: int) -> torch.Tensor:
    group = int(case.layout.table[layer, field])
    if group < 0:
        return torch.arange(count)
    first = int(case.layout.groups[group])
    return case.kept[client, first : first + count].long()


def entries(layout: Layout, found: places.Places, client: int, layer: int, rows: torch.Tensor, columns: torch.Tensor):
    """Positions of a layer's entries: (rows, columns, inner) and those of its vectors, (vectors, rows)."""
    inner = torch.arange(int(layout.table[layer, 4]))
    weight = (
        found.weight[client, layer]
        + rows[:, None, None] * found.row[client, layer]
        + columns[:, None] * found.column[client, layer]
        + inner * found.inner[client, layer]
    )
    vectors = [int(offset) + rows for offset in found.vectors[client, layer] if offset >= 0]
    return weight, vectors


def move(case: Case, source: places.Places, target: places.Places, values: torch.Tensor, gather: bool) -> torch.Tensor:
    """The submodels' entries of `values` at their places in a new buffer. gather: the source has units to choose."""
    result = torch.zeros(target.size, dtype=values.dtype)
    for client in range(case.clients):
        for layer in range(len(case.layout.table)):
            sizes = int(target.rows[client, layer]), int(target.columns[client, layer])
            leading = tuple(map(torch.arange, sizes))
            fields = (ROW_GROUP, COLUMN_GROUP)
            own = [units(case, client, layer, field, size) for field, size in zip(fields, sizes, strict=True)]
            taken, given_ = entries(case.layout, source, client, layer, *(own if gather else leading))
            placed, at = entries(case.layout, target, client, layer, *leading)
            result[placed] = values.flatten()[taken]
            for vector, place in zip(given_, at, strict=True):
                result[place] = values.flatten()[vector]
    return result


@given(cases())
def test_dense_to_compact_is_gather_weights(case):
    values = of_dense(case)
    dense = places.dense(case.layout, case.clients)
    compact = places.compact(case.layout, case.counts, case.capacity)
    found = move(case, dense, compact, values, gather=True).view(case.clients, case.capacity)
    assert torch.equal(found, gather_weights(values, case.kept, case.counts, case.layout, case.capacity))


@pytest.mark.parametrize("form", [places.packed, places.transposed])
@given(case=cases())
def test_packs_and_back(form, case):
    compact = places.compact(case.layout, case.counts, case.capacity)
    values = gather_weights(of_dense(case), case.kept, case.counts, case.layout, case.capacity)
    pack = form(case.layout, case.counts)
    assert torch.equal(
        move(case, pack, compact, move(case, compact, pack, values, gather=False), gather=False), values.flatten()
    )


@pytest.mark.parametrize("form", [places.packed, places.transposed])
def test_pack_is_aligned(form):
    case = small_case()
    pack = form(case.layout, case.counts)
    wide = pack.row if form is places.packed else pack.column
    held = pack.vectors[case.layout.table[:, BIAS : SHIFT + 1].expand_as(pack.vectors) >= 0]
    for aligned in (pack.weight, wide, pack.inner, held):
        assert not (aligned % places.PAD).any()
