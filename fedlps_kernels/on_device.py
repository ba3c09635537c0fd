"""A model's layout, and its units' places, as the CUDA part takes them: tensors in the device's memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedlps_kernels import native
from fedlps_kernels.layout import FIELDS, Layout
from fedlps_kernels.native import Array
from fedlps_kernels.places import Places

Model = tuple[Array, Array, Array, tuple[int, ...]]


@dataclass(frozen=True)
class OnDevice:
    """Made once per model and device with `OnDevice.of`; what the kernels do is the same for every number of clients.

    table, groups: the layout's. pieces: int64, where each layer's pieces of work begin (csrc/cuda/work.h).
    sizes: parameters, units, lines, tiles, chunks.
    """

    layout: Layout
    table: torch.Tensor
    groups: torch.Tensor
    pieces: torch.Tensor
    sizes: tuple[int, int, int, int, int]

    @classmethod
    def of(cls, layout: Layout, device: torch.device | str) -> OnDevice:
        """Copies to the device: not inside a graph. ValueError, one line, for more parameters than kernels count."""
        pieces = torch.tensor(native.gpu().cuda_pieces_of_work(native.array(layout.table)))
        lines, tiles, chunks = pieces.view(3, -1)[:, -1].tolist()
        sizes = (layout.parameters, layout.units, lines, tiles, chunks)
        return cls(layout, layout.table.to(device), layout.groups.to(device), pieces.to(device), sizes)

    @classmethod
    def of_groups(cls, groups: torch.Tensor, device: torch.device | str) -> OnDevice:
        """Of unit groups without layers, for ops that know of none."""
        return cls.of(Layout(groups.new_empty(0, FIELDS), groups, 0), device)

    @property
    def lines(self) -> int:
        """Units, and rows of layers without a row group: what one client's `scatter_update` is cut into."""
        return self.layout.units + self.sizes[2]

    def crossing(self) -> Model:
        """As the module takes it. The caller keeps this object alive."""
        return native.array(self.table), native.array(self.groups), native.array(self.pieces), self.sizes


def places(found: Places) -> tuple[Array, ...]:
    """Places as the module takes them. ValueError, one line, unless contiguous: `Places.to` makes them so."""
    tensors = (found.weight, found.row, found.column, found.inner, found.vectors)
    if not all(tensor.is_contiguous() for tensor in tensors):
        raise ValueError("places: got strided tensors, expected contiguous ones: use .to(device)")
    return native.arrays(*tensors)
