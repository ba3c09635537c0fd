"""Where the entries of every client's layers lie in a flat buffer: one form for dense, compact and packed weights.

The GPU's kernels read sizes, offsets and strides from memory, so that unequal clients share a launch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedlps_kernels.layout import BIAS, COLUMN_GROUP, COLUMNS, INNER, ROW_GROUP, ROWS, SHIFT, WEIGHT, Layout

PAD = 16  # elements; wide copies and matrix instructions want every stride and offset to be a multiple of it


@dataclass(frozen=True)
class Places:
    """C clients, L layers (rows of `Layout.table`); all offsets and strides in elements, int64, on one device.

    weight, row, column, inner: (C, L); entry (j, i, t) of a layer's weight lies at weight + j row + i column + t inner.
    vectors: (C, L, 3); entry j of bias, scale and shift lies at the offset + j; -1 where the layer has none.
    rows, columns: (C, L) int32, how many a client has. size: entries of the buffer.
    """

    weight: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    inner: torch.Tensor
    vectors: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    size: int

    def to(self, device: torch.device | str) -> Places:
        """The same on another device, contiguous."""
        weight, row, column, inner, vectors, rows, columns = (
            tensor.contiguous().to(device, non_blocking=True)
            for tensor in (self.weight, self.row, self.column, self.inner, self.vectors, self.rows, self.columns)
        )
        return Places(weight, row, column, inner, vectors, rows, columns, self.size)


def padded(counts: torch.Tensor) -> torch.Tensor:
    """Counts rounded up to multiples of `PAD`."""
    return (counts + PAD - 1) // PAD * PAD


def dense(layout: Layout, clients: int, shared: bool = False) -> Places:
    """The whole parameters, (C, P): a client's P entries behind those of the client before, in `layout`'s order.

    shared: (1, P), the same for all clients.
    """
    table = layout.table
    first = torch.arange(clients)[:, None] * (0 if shared else layout.parameters)
    vectors = torch.where(table[:, BIAS : SHIFT + 1] >= 0, first[:, :, None] + table[:, BIAS : SHIFT + 1], -1)
    columns, inner = (table[:, field].expand(clients, -1) for field in (COLUMNS, INNER))
    rows = table[:, ROWS].expand(clients, -1)
    sizes = (rows.int(), columns.int(), (1 if shared else clients) * layout.parameters)
    return Places(first + table[:, WEIGHT], columns * inner, inner, torch.ones_like(inner), vectors, *sizes)


def compact(layout: Layout, counts: torch.Tensor, capacity: int) -> Places:
    """The vectors of `gather_weights`, (C, N): per layer rows x columns x inner, bias, scale, shift, no pads.

    counts: (C, G) integers on the CPU. capacity: N.
    """
    rows, columns = _sizes(layout, counts)
    inner = layout.table[:, INNER].expand_as(rows)
    weight, vectors, _ = _consecutive(layout, rows * columns * inner, rows)
    shift = torch.arange(len(counts))[:, None] * capacity - weight[:, :1]
    weight, vectors = weight + shift, torch.where(vectors < 0, -1, vectors + shift[:, :, None])
    sizes = (rows.int(), columns.int(), len(counts) * capacity)
    return Places(weight, columns * inner, inner, torch.ones_like(inner), vectors, *sizes)


def packed(layout: Layout, counts: torch.Tensor) -> Places:
    """What matrix products read: per layer (row, inner, padded columns), then padded vectors, all clients in one row.

    counts: (C, G) integers on the CPU. All offsets and the row stride are multiples of `PAD`.
    """
    rows, columns = _sizes(layout, counts)
    inner, wide = layout.table[:, INNER].expand_as(rows), padded(columns)
    weight, vectors, size = _consecutive(layout, rows * inner * wide, padded(rows))
    return Places(weight, inner * wide, torch.ones_like(wide), wide, vectors, rows.int(), columns.int(), size)


def transposed(layout: Layout, counts: torch.Tensor) -> Places:
    """As `packed`, per layer (column, inner, padded rows): what the input gradient reads."""
    rows, columns = _sizes(layout, counts)
    inner, wide = layout.table[:, INNER].expand_as(rows), padded(rows)
    weight, vectors, size = _consecutive(layout, columns * inner * wide, wide)
    return Places(weight, torch.ones_like(wide), inner * wide, wide, vectors, rows.int(), columns.int(), size)


def _sizes(layout: Layout, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns of every client's layers, (C, L) int64."""
    given = torch.cat([counts.to("cpu", torch.int64), torch.zeros((len(counts), 1), dtype=torch.int64)], dim=1)
    found = []
    for group, all_of in ((ROW_GROUP, ROWS), (COLUMN_GROUP, COLUMNS)):
        groups = layout.table[:, group]
        found.append(torch.where(groups >= 0, given[:, groups], layout.table[:, all_of]))
    return found[0], found[1]


def _consecutive(layout: Layout, weights: torch.Tensor, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Offsets of weights and vectors that follow one another, and the sum. weights, vector: (C, L) entries of each."""
    has = layout.table[:, BIAS : SHIFT + 1] >= 0
    pieces = torch.cat([weights[:, :, None], vector[:, :, None] * has], dim=2)
    ends = pieces.flatten().cumsum(0)
    first = (ends - pieces.flatten()).view_as(pieces)
    return first[:, :, 0].contiguous(), torch.where(has, first[:, :, 1:], -1), int(ends[-1]) if len(ends) else 0
