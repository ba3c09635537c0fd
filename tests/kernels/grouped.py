"""Drawn layers of unequal clients: one unit, one sample, odd sizes, no units at all; NaN where nothing may be read."""

from dataclasses import dataclass

import torch
from hypothesis import strategies

ROOM = strategies.sampled_from([1, 2, 3, 5, 13, 33])


@dataclass(frozen=True)
class Layers:
    """A cohort's layers. room: for samples, columns, rows; counts: how many of each a client has. A linear layer has
    kernel 1 and maps of 1 x 1, which its tensors leave out."""

    room: tuple[int, int, int]
    counts: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    generator: torch.Generator
    height: int = 1
    width: int = 1
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    linear: bool = False

    @property
    def clients(self) -> int:
        return len(self.counts[0])

    @property
    def window(self) -> dict[str, int]:
        return {"stride": self.stride, "padding": self.padding}

    def inputs(self, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return self.values((0, 1), (self.height, self.width), dtype)

    def weights(self, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return self.values((2, 1), (self.kernel, self.kernel), dtype)

    def bias(self, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return self.values((2,), (), dtype)

    def gradient(self, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        """Of the outputs."""
        maps = tuple(1 + (size + 2 * self.padding - self.kernel) // self.stride for size in (self.height, self.width))
        return self.values((0, 2), maps, dtype)

    def values(self, kinds: tuple[int, ...], maps: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Standard normal numbers, (C, the kinds' rooms, maps), NaN beyond the clients' counts."""
        maps = () if self.linear else maps
        shape = self.clients, *(self.room[kind] for kind in kinds), *maps
        drawn = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        for dimension, kind in enumerate(kinds):
            beyond = torch.arange(self.room[kind]) >= self.counts[kind][:, None]
            place = [1] * len(shape)
            place[0], place[dimension + 1] = beyond.shape
            drawn = drawn.masked_fill(beyond.view(place), torch.nan)
        return drawn.to(dtype)

    def alone(self, client: int, tensor: torch.Tensor) -> torch.Tensor:
        return tensor[client : client + 1].clone()


@strategies.composite
def layers(draw: strategies.DrawFn, linear: bool, least: int = 0) -> Layers:
    """least: the fewest samples, columns and rows of a client."""
    clients = draw(strategies.integers(0, 3))
    room = draw(strategies.tuples(ROOM, ROOM, ROOM))
    generator = torch.Generator().manual_seed(draw(strategies.integers(0, 2**32)))
    counts = tuple(torch.randint(least, most + 1, (clients,), generator=generator, dtype=torch.int32) for most in room)
    if linear:
        return Layers(room, counts, generator, linear=True)
    kernel, stride, padding = (draw(strategies.integers(*edges)) for edges in ((1, 6), (1, 3), (0, 4)))
    sizes = strategies.integers(max(kernel - 2 * padding, 1), kernel + 6)
    return Layers(room, counts, generator, draw(sizes), draw(sizes), kernel, stride, padding)


def counts_of(*numbers: list[int]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(each, dtype=torch.int32) for each in numbers)


def small_layers(linear: bool = False) -> Layers:
    """Three clients: all there is room for, less of everything, a single sample and unit; room for a sample more."""
    counts = counts_of([4, 3, 1], [3, 2, 1], [5, 2, 1])
    maps = {} if linear else {"height": 5, "width": 6, "kernel": 3, "stride": 2, "padding": 1}
    return Layers((5, 3, 5), counts, torch.Generator().manual_seed(0), **maps, linear=linear)


def large_layers(linear: bool = False) -> Layers:
    """Enough products that a call takes several threads."""
    counts = counts_of([32, 20, 32, 7], [150, 80, 149, 3], [90, 97, 1, 50])
    maps = {} if linear else {"height": 6, "width": 5, "kernel": 3, "stride": 1, "padding": 1}
    return Layers((32, 150, 97), counts, torch.Generator().manual_seed(0), **maps, linear=linear)
