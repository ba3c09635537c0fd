"""A network of unequal clients in memory: packs, activations, and their way forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.capacity import Need, Setting, widest
from fedlps.engine.cuda.launches import Chain, Norm, Packed, Products, Window
from fedlps.engine.cuda.network import Network, Product, Stage
from fedlps_kernels.arena import Arena, offsets
from fedlps_kernels.layout import Layout
from fedlps_kernels.places import Places, packed, padded, transposed

Take = Callable[[str, Need], torch.Tensor]


class Propagation:
    """Activations of C clients, N samples each, and the packs that products read.

    counts: (C, G) int64 on the CPU. take: gives a buffer of the name, zeroed. With `setting.trains` every activation
    stays for the way back; else two take turns.
    """

    def __init__(
        self,
        network: Network,
        layout: Layout,
        products: Products,
        counts: torch.Tensor,
        setting: Setting,
        needs: dict[str, Need],
        buffers: Buffers,
        take: Take,
    ) -> None:
        self.network, self.products, self.setting = network, products, setting
        self.host = packed(layout, counts)
        places = [self.host, transposed(layout, counts)] if "transposed" in needs else [self.host]
        at = placed(buffers, "places of packs", places)
        data = {name: take(name, need) for name, need in needs.items()}
        self.packed = Packed(data["packed"], at[0])
        self.backward_packed = Packed(data["transposed"], at[1]) if "transposed" in needs else self.packed
        self.gradient = Packed(data["gradient"], at[0]) if setting.trains else None
        channels = [activation.kept(counts) for activation in network.activations]
        firsts = [
            offsets(own, setting.batch, one.positions)[0]
            for own, one in zip(channels, network.activations, strict=True)
        ]
        flat = [padded(own) * one.positions for own, one in zip(channels, network.activations, strict=True)]
        begins = buffers.put("offsets", firsts)
        wide = buffers.put("channels", [own.to(torch.int32) for own in (*channels, *flat)])
        number = len(channels)
        self.arenas, self.gradients = [], []
        for n, one in enumerate(network.activations):
            held = data[f"activations {n if setting.trains else n % 2}"]
            self.arenas.append(Arena(held, begins[n], wide[n], setting.batch, one.height, one.width))
            if setting.trains and n:
                self.gradients.append(replace(self.arenas[n], data=data[f"gradients {(n - 1) % 2}"]))
        self._flat = wide[number:]
        self._norms = self._make_norms(data["statistics"])

    def _make_norms(self, statistics: torch.Tensor) -> dict[int, Norm]:
        clients, wide, found = len(self.arenas[0].offsets), widest(self.network), {}
        for place, number in enumerate(self.network.norms):
            stage = self.network.operations[number]
            first = 2 * place * clients * wide
            both = statistics[first : first + 2 * clients * wide].view(2, clients, wide)
            assert isinstance(stage, Stage) and stage.norm is not None
            found[number] = Norm(stage.norm, both[0], both[1], self.packed)
        return found

    @property
    def logits(self) -> Arena:
        """What the classes' scores are written to."""
        return self.arenas[-1]

    @property
    def logits_gradient(self) -> Arena:
        """Where the way back begins."""
        return self.gradients[-1]

    def forward(self, samples: torch.Tensor, scale: torch.Tensor | None) -> None:
        """From the samples' activation to the logits. scale: (G, C), of the products' outputs."""
        for number, operation in enumerate(self.network.operations):
            inputs, outputs = self.arenas[number], self.arenas[number + 1]
            if isinstance(operation, Product):
                given = self._read(number, operation), self.packed, operation.layer, samples, outputs
                self.products.forward(*given, _window(operation), _factor(operation, scale))
            else:
                norm = self._norms.get(number)
                if norm is not None:
                    self.products.statistics(inputs, samples, norm)
                self.products.stage(inputs, samples, outputs, _chain(operation, norm))

    def backward(self, samples: torch.Tensor, scale: torch.Tensor | None) -> None:
        """From the gradient of the logits to that of all packed weights."""
        assert self.gradient is not None
        for number, operation in reversed(list(enumerate(self.network.operations))):
            gradient, before = self.gradients[number], self.gradients[number - 1] if number else None
            if isinstance(operation, Stage):
                if before is not None and not operation.first:
                    chain = _chain(operation, self._norms.get(number))
                    self.products.stage_gradient(self.arenas[number], gradient, samples, before, chain, self.gradient)
                continue
            window, factor = _window(operation), _factor(operation, scale)
            given = self._read(number, operation), gradient, operation.layer, samples, self.gradient
            self.products.weight_gradient(*given, window, factor)
            if before is not None and not operation.first:
                to = self._flattened(before, number) if window is None else before
                given_back = gradient, self.backward_packed, operation.layer, samples, to
                self.products.input_gradient(*given_back, window, factor)

    def _read(self, number: int, operation: Product) -> Arena:
        arena = self.arenas[number]
        return self._flattened(arena, number) if operation.kind == "linear" else arena

    def _flattened(self, arena: Arena, number: int) -> Arena:
        return Arena(arena.data, arena.offsets, self._flat[number], arena.samples, 1, 1)


def placed(buffers: Buffers, name: str, hosts: list[Places]) -> list[Places]:
    """Places on the device, at addresses that stay as long as there are as many clients."""
    long = [t for host in hosts for t in (host.weight, host.row, host.column, host.inner, host.vectors)]
    short = [t for host in hosts for t in (host.rows, host.columns)]
    longs, shorts = iter(buffers.put(name, long)), iter(buffers.put(f"{name}, sizes", short))
    found = []
    for host in hosts:
        weight, row, column, inner, vectors = (next(longs) for _ in range(5))
        found.append(Places(weight, row, column, inner, vectors, next(shorts), next(shorts), host.size))
    return found


def _window(operation: Product) -> Window | None:
    if operation.kind == "linear":
        return None
    return Window(operation.kernel, operation.stride, operation.padding)


def _chain(stage: Stage, norm: Norm | None) -> Chain:
    return Chain(norm, stage.relu, stage.pool, stage.window)


def _factor(operation: Product, scale: torch.Tensor | None) -> torch.Tensor | None:
    return None if scale is None or operation.group < 0 else scale[operation.group]
