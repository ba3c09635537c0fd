"""A network of unequal clients in memory: packs, activations, and their way forward and backward."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.capacity import Need, Setting, needs, widest
from fedlps.engine.cuda.launches import Chain, Norm, Packed, Products, Window
from fedlps.engine.cuda.network import Network, Product, Stage
from fedlps_kernels.arena import Arena, offsets
from fedlps_kernels.layout import Layout
from fedlps_kernels.places import Places, packed, padded, transposed


@dataclass(frozen=True)
class Surroundings:
    """What all cohorts of a run have in common."""

    network: Network
    layout: Layout
    products: Products
    buffers: Buffers


class Memory:
    """The flat buffers of a cohort. room: entries to make of those that have to be made anew."""

    def __init__(self, around: Surroundings, counts: torch.Tensor, setting: Setting, room: dict[str, int]) -> None:
        self.needs = needs(around.network, around.layout, counts, setting)
        self.buffers, self.room = around.buffers, room

    def take(self, name: str) -> torch.Tensor:
        """A buffer, zero as far as it is needed."""
        need: Need = self.needs[name]
        size = int(need.entries.sum())
        data = self.buffers.take(name, size, need.dtype, self.room.get(name, 0))
        data[:size].zero_()
        return data


class Forward:
    """Activations of C clients, N samples each, and the packs that products read. counts: (C, G) int64 on the CPU.

    With `setting.trains` every activation has memory of its own; else two take turns.
    """

    def __init__(self, around: Surroundings, counts: torch.Tensor, setting: Setting, memory: Memory) -> None:
        self.network, self.products = around.network, around.products
        self.host = packed(around.layout, counts)
        (at,) = placed(around.buffers, "places of packs", [self.host])
        self.packed = Packed(memory.take("packed"), at)
        every = self.network.activations
        channels = [one.kept(counts) for one in every]
        firsts = [offsets(own, setting.batch, one.positions)[0] for own, one in zip(channels, every, strict=True)]
        flat = [padded(own) * one.positions for own, one in zip(channels, every, strict=True)]
        begins = around.buffers.put("offsets", firsts)
        wide = around.buffers.put("channels", [own.to(torch.int32) for own in (*channels, *flat)])
        self._flat = wide[len(every) :]
        names = [f"activations {number if setting.trains else number % 2}" for number in range(len(every))]
        data = {name: memory.take(name) for name in dict.fromkeys(names)}
        self.arenas = [
            Arena(data[name], begins[number], wide[number], setting.batch, one.height, one.width)
            for number, (name, one) in enumerate(zip(names, every, strict=True))
        ]
        self._norms = _norms(self.network, memory.take("statistics"), len(counts), self.packed)

    @property
    def logits(self) -> Arena:
        """What the classes' scores are written to."""
        return self.arenas[-1]

    def forward(self, samples: torch.Tensor, scale: torch.Tensor | None) -> None:
        """From the samples' activation to the logits. scale: (G, C), of the products' outputs."""
        for number, operation in enumerate(self.network.operations):
            inputs, outputs = self.arenas[number], self.arenas[number + 1]
            if isinstance(operation, Product):
                given = self._read(number, operation), self.packed, operation.layer, samples, outputs
                self.products.forward(*given, _window(operation), _factor(operation, scale))
                continue
            chain = self._chain(number, operation)
            if chain.norm is not None:
                self.products.statistics(inputs, samples, chain.norm)
            self.products.stage(inputs, samples, outputs, chain)

    def _chain(self, number: int, stage: Stage) -> Chain:
        return Chain(number, self._norms.get(number), stage.relu, stage.pool, stage.window)

    def _read(self, number: int, operation: Product) -> Arena:
        arena = self.arenas[number]
        return self._flattened(arena, number) if operation.kind == "linear" else arena

    def _flattened(self, arena: Arena, number: int) -> Arena:
        # what Arena.flattened() computes, but at an address that stays
        return Arena(arena.data, arena.offsets, self._flat[number], arena.samples, 1, 1)


class BothWays(Forward):
    """The same with gradients: of activations, two taking turns, and of all packed weights."""

    def __init__(self, around: Surroundings, counts: torch.Tensor, setting: Setting, memory: Memory) -> None:
        super().__init__(around, counts, setting, memory)
        self.gradient = Packed(memory.take("gradient"), self.packed.places)
        self.backward_packed = self.packed
        if setting.transposed:
            (at,) = placed(around.buffers, "places of transposed packs", [transposed(around.layout, counts)])
            self.backward_packed = Packed(memory.take("transposed"), at)
        turns = [memory.take(f"gradients {parity}") for parity in (0, 1)]
        self._gradients = [replace(arena, data=turns[number % 2]) for number, arena in enumerate(self.arenas)]

    @property
    def logits_gradient(self) -> Arena:
        """Where the way back begins."""
        return self._gradients[-1]

    def backward(self, samples: torch.Tensor, scale: torch.Tensor | None, result: Packed) -> None:
        """From the gradient of the logits to that of all packed weights, which lie as `gradient` does."""
        for number, operation in reversed(list(enumerate(self.network.operations))):
            before, gradient = self._gradients[number], self._gradients[number + 1]
            if isinstance(operation, Stage):
                if not operation.first:
                    chain = self._chain(number, operation)
                    self.products.stage_gradient(self.arenas[number], gradient, samples, before, chain, result)
                continue
            window, factor = _window(operation), _factor(operation, scale)
            given = self._read(number, operation), gradient, operation.layer, samples, result
            self.products.weight_gradient(*given, window, factor)
            if not operation.first:
                to = self._flattened(before, number) if window is None else before
                back = gradient, self.backward_packed, operation.layer, samples, to
                self.products.input_gradient(*back, window, factor)


def placed(buffers: Buffers, name: str, hosts: list[Places]) -> list[Places]:
    """Places on the device, at addresses that stay as long as there are as many clients."""
    long = [one for host in hosts for one in (host.weight, host.row, host.column, host.inner, host.vectors)]
    short = [one for host in hosts for one in (host.rows, host.columns)]
    longs, shorts = iter(buffers.put(name, long)), iter(buffers.put(f"{name}, sizes", short))
    found = []
    for host in hosts:
        weight, row, column, inner, vectors = (next(longs) for _ in range(5))
        found.append(Places(weight, row, column, inner, vectors, next(shorts), next(shorts), host.size))
    return found


def _norms(network: Network, statistics: torch.Tensor, clients: int, weights: Packed) -> dict[int, Norm]:
    """By the number of the operation."""
    wide, found = widest(network), {}
    for place, (number, layer) in enumerate(network.norms):
        first = 2 * place * clients * wide
        mean, reciprocal = statistics[first : first + 2 * clients * wide].view(2, clients, wide)
        found[number] = Norm(layer, mean, reciprocal, weights)
    return found


def _window(operation: Product) -> Window | None:
    return None if operation.kind == "linear" else Window(operation.kernel, operation.stride, operation.padding)


def _factor(operation: Product, scale: torch.Tensor | None) -> torch.Tensor | None:
    return None if scale is None or operation.group < 0 else scale[operation.group]
