"""One layer's operands for unequal clients: each client's own tensors, and the same where the CUDA engine has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from bench.kernels.layers import Layer
from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.definitions.rounding import rounded
from fedlps.engine.cuda.launches import Launches, Packed, Precision, Window
from fedlps.engine.cuda.network import Activation, Network, Product
from fedlps.engine.cuda.serving import launches_for
from fedlps_kernels.arena import Arena, arena
from fedlps_kernels.layout import Layout
from fedlps_kernels.places import PAD, Places, packed, padded, transposed

Parts = list[torch.Tensor]  # one tensor per client


class Operands:
    """A layer of a cohort on a device, in a precision: its launches, and any number of sets of random operands."""

    def __init__(self, layer: Layer, device: torch.device | str, precision: Precision) -> None:
        self.layer, self.device, self.precision = layer, torch.device(device), precision
        _, columns, rows = (each.to(torch.int64) for each in layer.counts)
        self.columns, self.rows = columns.tolist(), rows.tolist()
        self.counts = rows[:, None] if layer.all_columns else torch.stack([columns, rows], dim=1)
        groups = (-1, 0) if layer.all_columns else (0, 1)
        self.layout, network = _alone(layer, *groups)
        self.store = torch.bfloat16 if precision == "bf16" else torch.float32
        self.samples = torch.full((len(rows),), layer.batch, dtype=torch.int32, device=self.device)
        sides = (layer.size, layer.out_size)
        (self._inputs, self._outputs) = (
            arena(kept, layer.batch, side, side, self.store, self.device)
            for kept, side in zip((columns, rows), sides, strict=True)
        )
        self.hosts = packed(self.layout, self.counts), transposed(self.layout, self.counts)
        self._places = [host.to(self.device) for host in self.hosts]
        self.launches: Launches = launches_for(self.layout, precision, torch.float32, Buffers(self.device))
        self.launches.products.prepare(network, self.counts, layer.batch, trains=True)
        linear = layer.kernel == 1 and layer.size == 1
        self.window = None if linear else Window(layer.kernel, 1, layer.padding)
        self._generator = torch.Generator(self.device).manual_seed(0)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Entries of all clients' inputs, weights and outputs."""
        inputs = sum(self.columns) * self.layer.batch * self.layer.size**2
        outputs = sum(self.rows) * self.layer.batch * self.layer.out_size**2
        return inputs, int(self.layout.compact_sizes(self.counts).sum()), outputs

    def draw(self) -> tuple[Parts, Parts, Parts]:
        """Every client's inputs (N, i, side, side), weights (o, i, k, k) and gradient of the outputs, as multiplied."""
        layer, pairs = self.layer, list(zip(self.columns, self.rows, strict=True))
        kernel, out = (layer.kernel,) * 2, (layer.out_size,) * 2
        inputs = [self._random(layer.batch, i, layer.size, layer.size) for i, _ in pairs]
        weights = [self._random(o, i, *kernel, scale=(i * layer.kernel**2) ** -0.5) for i, o in pairs]
        return inputs, weights, [self._random(layer.batch, o, *out) for _, o in pairs]

    def inputs(self, parts: Parts | None = None) -> Arena:
        """A new arena, zero or with the clients' parts."""
        return filled(self._inputs, parts)

    def outputs(self, parts: Parts | None = None) -> Arena:
        """The same for outputs and their gradients."""
        return filled(self._outputs, parts)

    def weights(self, parts: Parts, *, backward: bool = False) -> Packed:
        """As products read them; backward: as the input gradient does."""
        turned = backward and self.precision != "bf16"
        held = torch.zeros(self.hosts[turned].size + PAD, dtype=self.store, device=self.device)
        for client, part in enumerate(parts):
            block = weight_block(held, self.hosts[turned], client, turned=turned)
            given = part.flatten(2).permute(1, 2, 0) if turned else part.flatten(2).transpose(1, 2)
            block[..., : given.shape[2]] = given
        return Packed(held, self._places[turned])

    def gradient(self) -> Packed:
        """Room for the weights' gradients."""
        return Packed(torch.zeros(self.hosts[0].size + PAD, device=self.device), self._places[0])

    def unpacked(self, gradient: Packed) -> Parts:
        """Every client's (o, i, k, k)."""
        shapes = zip(self.columns, self.rows, strict=True)
        return [
            weight_block(gradient.data, self.hosts[0], client)[..., :i]
            .transpose(1, 2)
            .reshape(o, i, self.layer.kernel, self.layer.kernel)
            for client, (i, o) in enumerate(shapes)
        ]

    def _random(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        values = torch.randn(*shape, generator=self._generator, device=self.device) * scale
        return rounded(values, self.precision).to(self.store)


def weight_block(data: torch.Tensor, host: Places, client: int, *, turned: bool = False) -> torch.Tensor:
    """A view of one client's packed weight, (rows, inner, padded columns); turned: with rows and columns exchanged."""
    rows, columns = int(host.rows[client, 0]), int(host.columns[client, 0])
    outer, stride = (columns, host.column) if turned else (rows, host.row)
    wide, first = int(host.inner[client, 0]), int(host.weight[client, 0])
    size = outer * int(stride[client, 0])
    return data[first : first + size].view(outer, -1, wide)


def filled(like: Arena, parts: Parts | None) -> Arena:
    """A new arena of the same clients; parts: (N, channels, height, width) each."""
    made = replace(like, data=torch.zeros_like(like.data))
    for view, part in zip(clients(made), parts or [], strict=False):
        view.copy_(part)
    return made


def clients(of: Arena) -> Parts:
    """Views of every client's entries, (N, channels, height, width), without pads."""
    found, channels = [], of.channels.cpu()
    wide = padded(channels).tolist()
    for first, most, own in zip(of.offsets.tolist(), wide, channels.tolist(), strict=True):
        size = of.samples * of.positions * most
        view = of.data[first : first + size].view(of.samples, of.height, of.width, most)
        found.append(view[..., :own].permute(0, 3, 1, 2))
    return found


def together(kind: str, sizes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Which clients share a call. alone: none; equal: those of the same sizes; masked: all, as wide as the widest."""
    if kind == "alone":
        return [[client] for client in range(len(sizes))]
    if kind == "masked":
        return [list(range(len(sizes)))]
    found: dict[tuple[int, ...], list[int]] = {}
    for client, size in enumerate(sizes):
        found.setdefault(tuple(size), []).append(client)
    return list(found.values())


def _alone(layer: Layer, column_group: int, row_group: int) -> tuple[Layout, Network]:
    inner = layer.kernel**2
    table = [[row_group, column_group, layer.rows, layer.columns, inner, 0, -1, -1, -1]]
    units = [layer.rows] if layer.all_columns else [layer.columns, layer.rows]
    layout = Layout(
        torch.tensor(table), torch.tensor([0, *units]).cumsum(0), layer.rows * layer.columns * layer.kernel**2
    )
    kind = "linear" if layer.kernel == 1 and layer.size == 1 else "conv"
    product = Product(0, kind, row_group, False, layer.kernel, 1, layer.padding)
    activations = (
        Activation(column_group, layer.columns, layer.size, layer.size),
        Activation(row_group, layer.rows, layer.out_size, layer.out_size),
    )
    return layout, Network((product,), activations, layer.rows)
