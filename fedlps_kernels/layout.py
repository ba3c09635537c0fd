"""Where a model's entries lie in its flat vector, and which units hold them.

One legend for all ops: C clients, P parameters, G unit groups, U units of all groups, N capacity of a compact vector.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy
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

    def __post_init__(self) -> None:
        """ValueError or TypeError, one line, unless the layers tile the flat vector and fit the groups."""
        for name, tensor, dimensions in (("table", self.table, 2), ("groups", self.groups, 1)):
            if tensor.dtype != torch.int64 or tensor.device.type != "cpu":
                raise TypeError(f"{name}: got {tensor.dtype} on {tensor.device}, expected torch.int64 on cpu")
            if tensor.dim() != dimensions or not tensor.is_contiguous():
                raise ValueError(
                    f"{name}: got shape {tuple(tensor.shape)}, expected {dimensions} dimensions, contiguous"
                )
        if self.table.shape[1] != FIELDS:
            raise ValueError(f"table: got {self.table.shape[1]} columns, expected {FIELDS}")
        edges = self.groups.tolist()
        if not edges or edges[0] != 0 or any(last <= first for first, last in pairwise(edges)):
            raise ValueError(f"groups: got {edges}, expected 0 first, then ascending numbers")
        layers = self.table.tolist()
        for index, layer in enumerate(layers):
            _check_layer(index, layer, edges)
        reached = 0
        for first, size in sorted(piece for layer in layers for piece in _pieces(layer)):
            if first != reached:
                raise ValueError(
                    f"table: entries begin at {first}, expected {reached}: layers must tile the flat vector"
                )
            reached += size
        if reached != self.parameters:
            raise ValueError(f"parameters: got {self.parameters}, expected {reached}, the entries of all layers")

    @classmethod
    def of(cls, table: torch.Tensor, groups: torch.Tensor) -> "Layout":
        """The layout of a table: its P is what the layers hold together. For the ops, to whom tensors cross alone."""
        return cls(table, groups, sum(size for layer in table.tolist() for _, size in _pieces(layer)))

    @property
    def units(self) -> int:
        """U, the units of all groups."""
        return int(self.groups[-1])

    def compact_sizes(self, counts: torch.Tensor) -> torch.Tensor:
        """Entries of each client's submodel. counts: (C, G) integers, kept units per group. Returns (C,) int64."""
        given = counts.cpu().numpy().astype(numpy.int64)
        sizes = numpy.zeros(len(given), numpy.int64)
        for layer in self.table.tolist():
            rows = given[:, layer[ROW_GROUP]] if layer[ROW_GROUP] >= 0 else layer[ROWS]
            columns = given[:, layer[COLUMN_GROUP]] if layer[COLUMN_GROUP] >= 0 else layer[COLUMNS]
            vectors = sum(layer[vector] >= 0 for vector in (BIAS, SCALE, SHIFT))
            sizes += rows * (columns * layer[INNER] + vectors)
        return torch.from_numpy(sizes)

    def entries(self, kept: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Flat positions of one client's submodel, in compact order.

        kept: (U,) integers, ascending kept units per group from groups[g] on, as `select_units` returns them.
        counts: (G,) integers.
        Returns (n,) int64: per layer the weight's kept rows x kept columns x inner, then bias, scale, shift.
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


def _pieces(layer: list[int]) -> Iterator[tuple[int, int]]:
    """Where a layer's entries lie: (offset, size) of its weight and of each vector."""
    yield layer[WEIGHT], layer[ROWS] * layer[COLUMNS] * layer[INNER]
    for vector in (BIAS, SCALE, SHIFT):
        if layer[vector] >= 0:
            yield layer[vector], layer[ROWS]


def _check_layer(index: int, layer: list[int], edges: list[int]) -> None:
    """Positive sizes, and groups that exist and have the layer's rows and columns."""
    for name, field in (("rows", ROWS), ("columns", COLUMNS), ("inner", INNER)):
        if layer[field] < 1:
            raise ValueError(f"table: got {layer[field]} {name} in layer {index}, expected at least 1")
    for name, field, size in (("rows", ROW_GROUP, layer[ROWS]), ("columns", COLUMN_GROUP, layer[COLUMNS])):
        group = layer[field]
        if not -1 <= group < len(edges) - 1:
            raise ValueError(f"table: got group {group} of layer {index}'s {name}, expected -1 to {len(edges) - 2}")
        if group >= 0 and edges[group + 1] - edges[group] != size:
            units = edges[group + 1] - edges[group]
            raise ValueError(f"table: got {size} {name} in layer {index}, expected {units}, the units of group {group}")
