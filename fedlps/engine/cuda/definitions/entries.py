"""One client's entries of flat buffers, as `Places` say where they lie. Reads the device: for proofs."""

import torch

from fedlps_kernels.layout import BIAS, COLUMN_GROUP, INNER, ROW_GROUP, SHIFT, Layout
from fedlps_kernels.places import Places


def weight(data: torch.Tensor, places: Places, layout: Layout, layer: int, client: int) -> torch.Tensor:
    """A view of a layer's weight: (rows, columns, inner)."""
    inner = int(layout.table[layer, INNER])
    shape = (int(places.rows[client, layer]), int(places.columns[client, layer]), inner)
    strides = [int(one[client, layer]) for one in (places.row, places.column, places.inner)]
    return data.as_strided(shape, strides, data.storage_offset() + int(places.weight[client, layer]))


def vectors(data: torch.Tensor, places: Places, layer: int, client: int) -> list[torch.Tensor | None]:
    """Views of a layer's bias, scale and shift: (rows,) each, None where it has none."""
    rows = int(places.rows[client, layer])
    firsts = places.vectors[client, layer].tolist()
    return [None if first < 0 else data[first : first + rows] for first in firsts]


def selection(layout: Layout, kept: torch.Tensor, layer: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The kept rows and columns of a layer, None for all. kept: (U,), one client's."""
    found = []
    for field in (ROW_GROUP, COLUMN_GROUP):
        group = int(layout.table[layer, field])
        units = kept[int(layout.groups[group]) : int(layout.groups[group + 1])].long() if group >= 0 else None
        found.append(None if units is None else units[units >= 0])
    return found[0], found[1]


def positions(places: Places, layout: Layout, client: int) -> torch.Tensor:
    """Where one client's entries lie in a buffer, in compact order: (n,) int64."""
    pieces = []
    for layer, fields in enumerate(layout.table.tolist()):
        rows, columns = (torch.arange(int(of[client, layer])) for of in (places.rows, places.columns))
        row, column, inner, first = (
            int(one[client, layer]) for one in (places.row, places.column, places.inner, places.weight)
        )
        block = rows[:, None, None] * row + columns[:, None] * column + torch.arange(fields[INNER]) * inner
        pieces.append((first + block).flatten())
        for vector in range(BIAS, SHIFT + 1):
            if fields[vector] >= 0:
                pieces.append(int(places.vectors[client, layer, vector - BIAS]) + rows)
    return torch.cat(pieces).to(places.weight.device)
