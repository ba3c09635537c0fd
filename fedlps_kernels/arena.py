"""Activations of unequal clients in one flat buffer, channels innermost."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedlps_kernels.places import PAD, padded


@dataclass(frozen=True)
class Arena:
    """One step's output for C clients with room for N samples each.

    data: flat, float32 or bfloat16; pads are finite and, where a product reads them, zero. offsets: (C,) int64,
    multiples of `PAD`; client c's entries are (N, height, width, padded(channels[c])) from offsets[c] on.
    channels: (C,) int32, the kept channels. samples: N.
    """

    data: torch.Tensor
    offsets: torch.Tensor
    channels: torch.Tensor
    samples: int
    height: int
    width: int

    @property
    def positions(self) -> int:
        """Of one sample and channel."""
        return self.height * self.width

    def flattened(self) -> Arena:
        """The same entries as the input of a linear layer: (position, padded channel) as one row of channels."""
        rows = padded(self.channels) * self.positions
        return Arena(self.data, self.offsets, rows.to(torch.int32), self.samples, 1, 1)

    def client(self, number: int) -> torch.Tensor:
        """A view of one client's entries, (N, height, width, padded channels). Reads the device: for proofs."""
        wide = int(padded(self.channels[number]))
        first = int(self.offsets[number])
        shape = (self.samples, self.height, self.width, wide)
        return self.data[first : first + self.samples * self.positions * wide].view(shape)


def offsets(channels: torch.Tensor, samples: int, positions: int) -> tuple[torch.Tensor, int]:
    """Where C clients' entries begin, (C,) int64, and the size of the buffer. channels: (C,) integers on the CPU."""
    sizes = padded(channels.to(torch.int64)) * samples * positions
    ends = sizes.cumsum(0)
    return ends - sizes, int(ends[-1]) if len(ends) else 0


def arena(
    channels: torch.Tensor, samples: int, height: int, width: int, dtype: torch.dtype, device: torch.device | str
) -> Arena:
    """A new arena, all zero. channels: (C,) integers on the CPU."""
    first, size = offsets(channels, samples, height * width)
    data = torch.zeros(size + PAD, dtype=dtype, device=device)  # never empty: kernels take its address
    return Arena(data, first.to(device), channels.to(device, torch.int32), samples, height, width)
