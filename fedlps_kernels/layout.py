"""Where a model's entries lie in its flat vector, and which units hold them.

One legend for all ops: C clients, P parameters, G unit groups, U units of all groups, N capacity of a compact vector.
"""

from dataclasses import dataclass

import torch

ROW_GROUP, COLUMN_GROUP, ROWS, COLUMNS, INNER, WEIGHT, BIAS, SCALE, SHIFT = range(9)
FIELDS = 9


@dataclass(frozen=True)
class Layout:
    """The layers of one model, in flat order.

    table: (layers, 9) int64 on the CPU. Per layer: group of its rows and group of its columns (-1: all are always
        kept), rows, columns (units of the layer before, or input channels), inner (weight entries per row and column:
        spread * kernel area), and the offsets of weight, bias, scale and shift in the flat vector (-1: none). The
        weight is (rows, columns, inner), row-major. A parameter outside every unit is a layer of one column and
        groups -1.
    groups: (G + 1,) int64 on the CPU: group g's units are groups[g] : groups[g + 1] of the U units.
    parameters: P, the length of the flat vector.
    """

    table: torch.Tensor
    groups: torch.Tensor
    parameters: int

    @property
    def units(self) -> int:
        """U, the units of all groups."""
        return int(self.groups[-1])

    def compact_sizes(self, counts: torch.Tensor) -> torch.Tensor:
        """Entries of each client's submodel. counts: (C, G) integers, kept units per group. Returns (C,) int64."""
        counts = counts.to("cpu", torch.int64)
        sizes = torch.zeros(counts.shape[0], dtype=torch.int64)
        for layer in self.table.tolist():
            rows = counts[:, layer[ROW_GROUP]] if layer[ROW_GROUP] >= 0 else layer[ROWS]
            columns = counts[:, layer[COLUMN_GROUP]] if layer[COLUMN_GROUP] >= 0 else layer[COLUMNS]
            sizes += rows * columns * layer[INNER]
            sizes += rows * sum(layer[vector] >= 0 for vector in (BIAS, SCALE, SHIFT))
        return sizes

    def entries(self, kept: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Flat positions of one client's submodel, in compact order.

        kept: (U,) integers, ascending kept units per group from groups[g] on, as `select_units` returns them; counts: (G,)
        integers. Returns (n,) int64: per layer the weight's kept rows x kept columns x inner, then bias, scale, shift.
        """
        edges, counted = self.groups.tolist(), counts.tolist()
        units = [kept[edges[g] : edges[g] + counted[g]].to("cpu", torch.int64) for g in range(len(counted))]
        pieces = []
        for layer in self.table.tolist():
            rows = units[layer[ROW_GROUP]] if layer[ROW_GROUP] >= 0 else torch.arange(layer[ROWS])
            columns = units[layer[COLUMN_GROUP]] if layer[COLUMN_GROUP] >= 0 else torch.arange(layer[COLUMNS])
            blocks = rows[:, None] * layer[COLUMNS] + columns
            pieces.append((layer[WEIGHT] + blocks[:, :, None] * layer[INNER] + torch.arange(layer[INNER])).flatten())
            pieces.extend(rows + layer[vector] for vector in (BIAS, SCALE, SHIFT) if layer[vector] >= 0)
        return torch.cat(pieces)
