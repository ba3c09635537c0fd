"""Which pieces of which clients' results a launch computes, in which order: lists made on the host, read by kernels.

How many pieces a client has, and how its sums are split, follows from its own counts and the layer alone, so a client's
bits do not depend on its company; only the order of the list does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy
import torch

from fedlps_kernels.places import padded
from fedlps_kernels.tuning import Block


@dataclass(frozen=True)
class Tiles:
    """One launch's list.

    records: (T, 4) int32 {client, tile of rows, tile of columns, split}; the splits of a tile follow one another.
    number: (1,) int32, how many of the records count: a list may lie in a larger buffer. block: the shape of a tile.
    splits: of every tile's sum.
    """

    records: torch.Tensor
    number: torch.Tensor
    block: Block
    splits: int = 1

    def to(self, device: torch.device | str) -> Tiles:
        """The same on another device."""
        records, number = (tensor.to(device, non_blocking=True) for tensor in (self.records, self.number))
        return Tiles(records, number, self.block, self.splits)


def tiles(rows: torch.Tensor, columns: torch.Tensor, depth: torch.Tensor, block: Block, splits: int = 1) -> Tiles:
    """All tiles of C clients, on the CPU: clients with the longest sums first, each client's tiles adjacent.

    rows, columns: (C,) integers, how many tiles a client has in each direction. depth: (C,) integers, the length of its
    sums. Within a client the row tile changes faster than the column tile, so neighbours read the same weights.
    """
    down, across = (numpy.asarray(count, dtype=numpy.int64) for count in (rows, columns))
    order = numpy.argsort(-numpy.asarray(depth, dtype=numpy.int64), kind="stable")
    sizes = (down * across)[order] * splits
    client = order.repeat(sizes)
    ends = sizes.cumsum()
    place = numpy.arange(client.size) - (ends - sizes).repeat(sizes)
    tile, split = place // splits, place % splits
    records = numpy.stack([client, tile % down[client], tile // down[client], split], axis=1).astype(numpy.int32)
    return Tiles(torch.from_numpy(records), torch.tensor([len(records)], dtype=torch.int32), block, splits)


def pieces(counts: torch.Tensor, size: int) -> torch.Tensor:
    """How many tiles of a size cover each client's padded channels: pads are written too."""
    return (padded(counts) + size - 1) // size
