"""Products and stages by Triton's kernels: which list of tiles each launch goes by, in memory that stays."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fedlps.engine.cuda.buffers import ALIGNED, Buffers
from fedlps.engine.cuda.definitions.products import DefinedProducts
from fedlps.engine.cuda.launches import Chain, Norm, Packed, Precision, Window
from fedlps.engine.cuda.network import Network, Product
from fedlps_kernels import launching
from fedlps_kernels.arena import Arena
from fedlps_kernels.gather_batch import triton as batches
from fedlps_kernels.grouped_conv2d import triton as products
from fedlps_kernels.layout import Layout
from fedlps_kernels.places import padded
from fedlps_kernels.softmax_loss import triton as losses
from fedlps_kernels.tiles import Tiles
from fedlps_kernels.tuning import Product as Kind
from fedlps_kernels.unit_norm import triton as stages

LINEAR = Window(1, 1, 0)
RECORD = 4  # numbers of a tile
KINDS: tuple[Kind, ...] = ("forward", "weight_gradient", "input_gradient")  # the last not of the first layer


class TiledProducts:
    """`launches.Products`; float32 masters only.

    Lists lie in buffers with room for whole models, so that captured launches find those of the next round there.
    """

    def __init__(self, layout: Layout, precision: Precision, buffers: Buffers) -> None:
        self.precision, self.buffers = precision, buffers
        self._values = DefinedProducts(layout, precision)
        self._architecture = launching.architecture(buffers.device)
        self._tiles: dict[tuple[str, int], Tiles] = {}
        self._workspace = torch.empty(0)
        self._classes = 0

    def prepare(self, network: Network, counts: torch.Tensor, batch: int, trains: bool) -> None:
        """The lists of all launches, and the workspace of those that split their sums."""
        self._classes, self._tiles, room = network.classes, {}, 0
        roomy = dict(self._lists(network, _whole(network, counts), batch, trains))
        for key, made in self._lists(network, counts, batch, trains):
            capacity = len(counts) * len(roomy[key].records)
            name, number = key
            held = self.buffers.take(f"tiles of {name} {number}", ALIGNED + RECORD * capacity, torch.int32)
            staged = torch.cat([made.number, made.number.new_zeros(ALIGNED - 1), made.records.flatten()])
            held[: len(staged)].copy_(staged)
            records = held[ALIGNED : ALIGNED + RECORD * capacity].view(capacity, RECORD)
            self._tiles[key] = Tiles(records, held[:1], made.block, made.splits)
            room = max(room, _partial(name, self._tiles[key]))
        self._workspace = self.buffers.take("workspace", room, torch.float32)

    def bytes(self, network: Network, counts: torch.Tensor, batch: int, trains: bool) -> int:
        """Lists, and the largest workspace."""
        made = list(self._lists(network, counts, batch, trains))
        lists = sum(one.records.nbytes + ALIGNED * one.records.itemsize for _, one in made)
        return lists + 4 * max((_partial(name, one) for (name, _), one in made), default=0)

    def gather(
        self,
        images: torch.Tensor,
        table: torch.Tensor | None,
        indices: torch.Tensor,
        samples: torch.Tensor,
        outputs: Arena,
    ) -> None:
        """Bytes by the kernel, values by torch."""
        if table is None:
            self._values.gather(images, table, indices, samples, outputs)
        else:
            batches.gather(images, table, indices, samples, outputs, precision=self.precision)

    def forward(
        self,
        inputs: Arena,
        weights: Packed,
        layer: int,
        samples: torch.Tensor,
        outputs: Arena,
        window: Window | None,
        scale: torch.Tensor | None,
    ) -> None:
        """A linear layer is a convolution on one position."""
        one = window or LINEAR
        products.forward(
            *(inputs, weights.data, weights.places, layer, samples, outputs, self._tiles["forward", layer]),
            kernel=one.kernel,
            stride=one.stride,
            padding=one.padding,
            scale=scale,
            precision=self.precision,
        )

    def input_gradient(
        self,
        gradient: Arena,
        weights: Packed,
        layer: int,
        samples: torch.Tensor,
        inputs: Arena,
        window: Window | None,
        scale: torch.Tensor | None,
    ) -> None:
        """From transposed packs, but in bf16."""
        one = window or LINEAR
        products.input_gradient(
            *(gradient, weights.data, weights.places, layer, samples, inputs, self._tiles["input_gradient", layer]),
            kernel=one.kernel,
            stride=one.stride,
            padding=one.padding,
            scale=scale,
            precision=self.precision,
            transposed=self.precision != "bf16",
        )

    def weight_gradient(
        self,
        inputs: Arena,
        gradient: Arena,
        layer: int,
        samples: torch.Tensor,
        result: Packed,
        window: Window | None,
        scale: torch.Tensor | None,
    ) -> None:
        """Sums over many positions in splits."""
        one, tiles = window or LINEAR, self._tiles["weight_gradient", layer]
        products.weight_gradient(
            *(inputs, gradient, samples, result.data, result.places, layer, tiles, self._workspace),
            kernel=one.kernel,
            stride=one.stride,
            padding=one.padding,
            scale=scale,
            precision=self.precision,
        )

    def statistics(self, inputs: Arena, samples: torch.Tensor, norm: Norm) -> None:
        """Before the stage."""
        stages.statistics(inputs, samples, _norm(norm), self._tiles["sums", norm.layer], self._workspace)

    def stage(self, inputs: Arena, samples: torch.Tensor, outputs: Arena, chain: Chain) -> None:
        """One pass."""
        stages.forward(
            *(inputs, samples, outputs, self._tiles["stage", chain.number]),
            norm=_norm(chain.norm) if chain.norm else None,
            relu=chain.relu,
            pool=_pool(chain),
            precision=self.precision,
        )

    def stage_gradient(
        self, inputs: Arena, gradient: Arena, samples: torch.Tensor, result: Arena, chain: Chain, vectors: Packed
    ) -> None:
        """One pass, and before it the sums of a norm."""
        stages.backward(
            *(inputs, gradient, samples, result, self._tiles["stage_gradient", chain.number]),
            norm=_norm(chain.norm) if chain.norm else None,
            relu=chain.relu,
            pool=_pool(chain),
            precision=self.precision,
            sums=vectors.data,
            sum_tiles=self._tiles["sums", chain.norm.layer] if chain.norm else None,
            workspace=self._workspace,
        )

    def loss(
        self,
        logits: Arena,
        labels: torch.Tensor,
        samples: torch.Tensor,
        gradient: Arena,
        losses_: torch.Tensor,
        hits: torch.Tensor,
        teacher: Arena | None = None,
    ) -> None:
        """Softmax cross entropy."""
        given = logits, labels, samples, self._classes, losses_, hits, gradient, teacher
        losses.forward_backward(*given, precision=self.precision)

    def _lists(
        self, network: Network, counts: torch.Tensor, batch: int, trains: bool
    ) -> Iterator[tuple[tuple[str, int], Tiles]]:
        """By launch: its name, and the layer or the number of the stage."""
        for number, operation in enumerate(network.operations):
            before, behind = network.activations[number], network.activations[number + 1]
            inputs, outputs = before.kept(counts), behind.kept(counts)
            if not isinstance(operation, Product):
                sized = ("stage", outputs, behind), ("stage_gradient", inputs, before)
                for name, channels, one in sized if trains else sized[:1]:
                    made = stages.tiles_of("positions", channels, one.channels, batch, one.positions)
                    yield (name, number), made
                if operation.norm is not None:
                    made = stages.tiles_of("sums", inputs, before.channels, batch, before.positions)
                    yield ("sums", operation.norm), made
                continue
            linear = operation.kind == "linear"
            columns = padded(inputs) * before.positions if linear else inputs
            widest = int(padded(torch.tensor(before.channels))) * before.positions if linear else before.channels
            wanted: tuple[Kind, ...] = KINDS if trains and not operation.first else KINDS[: 2 if trains else 1]
            for kind in wanted:
                read = before.positions if kind == "input_gradient" and not linear else behind.positions
                shape = outputs, columns, (behind.channels, widest), batch, read, 1 if linear else operation.kernel
                yield (kind, operation.layer), products.tiles_of(kind, *shape, self.precision, self._architecture)


def _whole(network: Network, counts: torch.Tensor) -> torch.Tensor:
    """Every unit, (1, G)."""
    units = torch.zeros((1, counts.shape[1]), dtype=counts.dtype)
    for activation in network.activations:
        if activation.group >= 0:
            units[0, activation.group] = activation.channels
    return units


def _partial(name: str, tiles: Tiles) -> int:
    """Entries of the workspace that a launch wants."""
    if name == "weight_gradient":
        return products.partial_size(tiles)
    return stages.partial_size(tiles) if name == "sums" else 0


def _norm(norm: Norm) -> stages.Norm:
    return stages.Norm(norm.mean, norm.reciprocal, norm.weights.data, norm.weights.places, norm.layer)


def _pool(chain: Chain) -> stages.Pool | None:
    return None if chain.pool is None else stages.Pool(chain.pool, chain.window, chain.window)
