"""One layer of unequal clients, as float64 tensors for the definitions and as arenas and packs for the kernels."""

from dataclasses import dataclass
from functools import cached_property

import torch

from fedlps_kernels import Layout, launching, places
from fedlps_kernels.arena import Arena, offsets
from fedlps_kernels.places import PAD, Places
from fedlps_kernels.tuning import DTYPES, Precision
from tests.interpret.memory import Memory

LAST = {"fp32": 24, "tf32": 11, "bf16": 8}  # bits of precision


def rounded(values: torch.Tensor, precision: Precision) -> torch.Tensor:
    """float64 numbers that the precision can hold."""
    bits = 2.0 ** (LAST[precision] - 1)
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp((mantissa * 2 * bits).round() / bits / 2, exponent)


@dataclass(frozen=True)
class Shape:
    """Clients' counts, and the layer all share. most: rows and columns of the whole layer. seen: 1, or the positions
    behind a flatten: each column then has so many inputs."""

    most: tuple[int, int]
    room: int
    samples: list[int]
    rows: list[int]
    columns: list[int]
    height: int = 1
    width: int = 1
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    flat: bool = False

    @property
    def window(self) -> dict[str, int]:
        return {} if self.flat else {"kernel": self.kernel, "stride": self.stride, "padding": self.padding}

    @property
    def target(self) -> tuple[int, int]:
        """Height and width of the outputs."""
        if self.flat:
            return 1, 1
        height, width = (1 + (size + 2 * self.padding - self.kernel) // self.stride for size in self.maps)
        return height, width

    @property
    def maps(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def inner(self) -> int:
        """Weights per row and column."""
        return self.height * self.width if self.flat else self.kernel**2


class Layer:
    """Standard normal inputs, weights, bias and gradient, rounded to the precision; arenas are NaN beyond samples."""

    def __init__(self, shape: Shape, precision: Precision, memory: Memory, seed: int = 0) -> None:
        self.shape, self.precision, self.memory = shape, precision, memory
        self.dtype = DTYPES[precision]
        generator = torch.Generator().manual_seed(seed)
        clients, (rows, columns) = len(shape.samples), shape.most

        def drawn(*sizes: int) -> torch.Tensor:
            return rounded(torch.randn(clients, *sizes, generator=generator, dtype=torch.float64), precision)

        self.inputs = drawn(shape.room, columns, *shape.maps)
        self.weights, self.bias = drawn(rows, columns, shape.inner), drawn(rows)
        self.gradient = drawn(shape.room, rows, *shape.target)
        self.scale = memory.place(drawn().abs().float() + 0.5)
        self.samples = memory.place(torch.tensor(shape.samples, dtype=torch.int32))
        self.rows, self.columns = torch.tensor(shape.rows), torch.tensor(shape.columns)
        table = [[0, 1, rows, columns, shape.inner, 0, self.weights[0].numel(), -1, -1]]
        self.layout = Layout(
            torch.tensor(table), torch.tensor([0, rows, rows + columns]), self.weights[0].numel() + rows
        )
        self.counts = torch.stack([self.rows, self.columns], dim=1)

    @cached_property
    def packed(self) -> Places:
        return self._placed(places.packed(self.layout, self.counts))

    @cached_property
    def transposed(self) -> Places:
        return self._placed(places.transposed(self.layout, self.counts))

    def _placed(self, found: Places) -> Places:
        place = self.memory.place
        tensors = (found.weight, found.row, found.column, found.inner, found.vectors, found.rows, found.columns)
        return Places(*map(place, tensors), found.size)

    def pack(self, at: Places) -> torch.Tensor:
        """Weights and bias at their places, zeros elsewhere."""
        values = torch.zeros(at.size + PAD, dtype=torch.float64)
        for client in range(len(self.counts)):
            weight, bias = self.entries(at, client)
            values[weight] = self.weights[client, : weight.shape[0], : weight.shape[1]]
            values[bias] = self.bias[client, : len(bias)]
        return self.memory.place(values.to(self.dtype))

    def entries(self, at: Places, client: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions of a client's weight, (rows, columns, inner), and bias."""
        row, column, inner = (torch.arange(int(size)) for size in (*self.counts[client], self.shape.inner))
        first, *steps = (tensor[client, 0] for tensor in (at.weight, at.row, at.column, at.inner))
        weight = first + row[:, None, None] * steps[0] + column[:, None] * steps[1] + inner * steps[2]
        return weight, at.vectors[client, 0, 0] + row

    def arena(self, channels: torch.Tensor, maps: tuple[int, int], values: torch.Tensor | None = None) -> Arena:
        """values: (C, N, channels, height, width); None: a result's, all NaN."""
        first, size = offsets(channels, self.shape.room, maps[0] * maps[1])
        data = self.memory.nans(size + PAD, dtype=self.dtype)
        place = self.memory.place
        made = Arena(data, place(first), place(channels.to(torch.int32)), self.shape.room, *maps)
        if values is not None:
            for client, (count, samples) in enumerate(zip(channels.tolist(), self.shape.samples, strict=True)):
                own = made.client(client)[:samples]
                own.zero_()
                own[..., :count] = values[client, :samples, :count].permute(0, 2, 3, 1).to(self.dtype)
        return made

    def expect(self, got: Arena, wanted: torch.Tensor) -> None:
        """The values, (C, N, channels, height, width), once rounded; pads of zeros; nothing beyond the samples."""
        errors = []
        for client, samples in enumerate(self.shape.samples):
            found, count = got.client(client).double(), int(got.channels[client])
            assert found[samples:].isnan().all(), "written beyond the samples"
            assert not found[:samples, ..., count:].any(), "pads are not zero"
            errors.append(found[:samples, ..., :count].permute(0, 3, 1, 2) - wanted[client, :samples, :count])
        self.small(torch.cat([error.flatten() for error in errors]), wanted, self.precision)
        assert got.data[-PAD:].isnan().all(), "written behind the last client"

    @staticmethod
    def small(error: torch.Tensor, wanted: torch.Tensor, precision: Precision) -> None:
        """One rounding to nearest at most, and those of sums in float32, by root mean squares."""
        allowed = (0.6 * 2.0 ** -LAST[precision] + 2e-6) * wanted.square().sum().sqrt()
        assert error.square().sum().sqrt() <= allowed, (error.abs().max(), allowed)


assert launching.INTERPRETER_PROGRAMS > 1  # else no test would see tiles of several programs
