"""Kernels over activations, in plain torch."""

import torch
from torch.nn import functional

from fedlps.engine.cuda.definitions import stages
from fedlps.engine.cuda.definitions.entries import vectors, weight
from fedlps.engine.cuda.definitions.rounding import computed, rounded
from fedlps.engine.cuda.launches import Chain, Norm, Packed, Precision, Window
from fedlps.engine.cuda.network import Network
from fedlps_kernels.arena import Arena
from fedlps_kernels.layout import Layout
from fedlps_kernels.places import PAD


class DefinedProducts:
    """`launches.Products`; what each method computes is said there."""

    def __init__(self, layout: Layout, precision: Precision) -> None:
        self.layout, self.precision = layout, precision

    def prepare(self, network: Network, counts: torch.Tensor, batch: int, trains: bool) -> None:
        """Nothing: counts are read where they are needed."""

    def bytes(self, network: Network, counts: torch.Tensor, batch: int, trains: bool) -> int:
        """None."""
        return 0

    def gather(
        self,
        images: torch.Tensor,
        table: torch.Tensor | None,
        indices: torch.Tensor,
        samples: torch.Tensor,
        outputs: Arena,
    ) -> None:
        """Of all clients at once: the sample's channels are never thinned."""
        values = images[indices]
        if table is not None:
            values = torch.stack([of[values[:, :, number].long()] for number, of in enumerate(table)], dim=2)
        wide = -(-values.shape[2] // PAD) * PAD
        place = outputs.data[: values[:, :, 0].numel() * wide].view(*values.shape[:2], *values.shape[3:], wide)
        place[..., : values.shape[2]] = rounded(values, self.precision).permute(0, 1, 3, 4, 2)

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
        """Product, bias, factor."""
        for client, size in enumerate(samples.tolist()):
            w = computed(weight(weights.data, weights.places, self.layout, layer, client))
            if not size or not w.shape[0]:
                continue
            bias = vectors(weights.data, weights.places, layer, client)[0]
            x = _operand(inputs, client, size, w, window)
            if window is None:
                found = torch.einsum("npc,rcp->nr", x, w)[:, :, None, None]
            else:
                kernels = w.reshape(*w.shape[:2], window.kernel, window.kernel)
                found = functional.conv2d(x, kernels, stride=window.stride, padding=window.padding)
            if bias is not None:
                found = found + computed(bias)[:, None, None]
            self._write(outputs, client, found if scale is None else found * scale[client])

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
        """The transposed product."""
        for client, size in enumerate(samples.tolist()):
            w = computed(weight(weights.data, weights.places, self.layout, layer, client))
            if not size:
                continue
            g = _scaled(_read(gradient, client, size), scale, client)
            if window is None:
                found = torch.einsum("nr,rcp->npc", g.flatten(1), w)
                place = inputs.client(client)[:size].view(size, w.shape[2], -1)
                place[:, :, : w.shape[1]] = rounded(found, self.precision).to(place.dtype)
                continue
            kernels = w.reshape(*w.shape[:2], window.kernel, window.kernel)
            sides = (inputs.height, inputs.width)
            unseen = [(side + 2 * window.padding - window.kernel) % window.stride for side in sides]
            found = functional.conv_transpose2d(
                g, kernels, stride=window.stride, padding=window.padding, output_padding=unseen
            )
            self._write(inputs, client, found)

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
        """Sums over samples and positions."""
        for client, size in enumerate(samples.tolist()):
            place = weight(result.data, result.places, self.layout, layer, client)
            if not size:
                continue
            g = _scaled(_read(gradient, client, size), scale, client)
            x = _operand(inputs, client, size, place, window)
            if window is None:
                found = torch.einsum("nr,npc->rcp", g.flatten(1), x)
            else:
                # samples and channels change places: each input channel is a sample, each unit's gradient a kernel
                swapped = x.transpose(0, 1), g.transpose(0, 1)
                sums = functional.conv2d(*swapped, padding=window.padding, dilation=window.stride)
                found = sums.transpose(0, 1)[..., : window.kernel, : window.kernel].flatten(2)
            place.copy_(found)
            bias = vectors(result.data, result.places, layer, client)[0]
            if bias is not None:
                bias.copy_(g.sum(dim=(0, 2, 3)))

    def statistics(self, inputs: Arena, samples: torch.Tensor, norm: Norm) -> None:
        """Biased variance."""
        for client, size in enumerate(samples.tolist()):
            if size:
                found = stages.statistics(_read(inputs, client, size))
                for to, values in zip((norm.mean, norm.reciprocal), found, strict=True):
                    to[client, : len(values)] = values

    def stage(self, inputs: Arena, samples: torch.Tensor, outputs: Arena, chain: Chain) -> None:
        """Norm, ReLU, pooling."""
        for client, size in enumerate(samples.tolist()):
            if size:
                x = _read(inputs, client, size)
                norm = None if chain.norm is None else _vectors(chain.norm, client)
                statistics = None if chain.norm is None else _statistics(chain.norm, client, x.shape[1])
                self._write(outputs, client, stages.forward(x, chain, norm, statistics))

    def stage_gradient(
        self, inputs: Arena, gradient: Arena, samples: torch.Tensor, result: Arena, chain: Chain, vectors_: Packed
    ) -> None:
        """By automatic differentiation of the forward pass, statistics included."""
        for client, size in enumerate(samples.tolist()):
            if not size:
                continue
            norm = None if chain.norm is None else _vectors(chain.norm, client)
            found = stages.backward(_read(inputs, client, size), _read(gradient, client, size), chain, norm)
            self._write(result, client, found[0])
            if chain.norm is not None:
                _, *places = vectors(vectors_.data, vectors_.places, chain.norm.layer, client)
                for place, values in zip(places, found[1:], strict=True):
                    if place is not None:
                        place.copy_(values)

    def loss(
        self,
        logits: Arena,
        labels: torch.Tensor,
        samples: torch.Tensor,
        gradient: Arena,
        losses: torch.Tensor,
        hits: torch.Tensor,
        teacher: Arena | None = None,
    ) -> None:
        """Softmax cross entropy."""
        for client, size in enumerate(samples.tolist()):
            losses[client], hits[client] = 0, 0
            if not size:
                continue
            scores, wanted = _read(logits, client, size).flatten(1), labels[client, :size].long()
            log = scores.log_softmax(1)
            if teacher is None:
                target = functional.one_hot(wanted, scores.shape[1])
                losses[client] = -log.gather(1, wanted[:, None]).mean()
            else:
                target = _read(teacher, client, size).flatten(1).softmax(1)
                losses[client] = -(target * log).sum(1).mean()
            hits[client] = (scores.argmax(1) == wanted).sum()
            slope = (log.exp() - target) / size
            self._write(gradient, client, slope[:, :, None, None])

    def _write(self, outputs: Arena, client: int, values: torch.Tensor) -> None:
        """values: (n, channels, height, width)."""
        place = outputs.client(client)[: len(values)]
        place[..., : values.shape[1]] = rounded(values, self.precision).permute(0, 2, 3, 1).to(place.dtype)


def _read(arena: Arena, client: int, size: int) -> torch.Tensor:
    """(n, channels, height, width), without pads."""
    return computed(arena.client(client)[:size, :, :, : int(arena.channels[client])].permute(0, 3, 1, 2))


def _operand(inputs: Arena, client: int, size: int, like: torch.Tensor, window: Window | None) -> torch.Tensor:
    """What a product reads: an image, or of flattened inputs (n, positions, channels). like: (rows, columns, inner)."""
    if window is not None:
        return _read(inputs, client, size)
    return computed(inputs.client(client)[:size].reshape(size, like.shape[2], -1)[:, :, : like.shape[1]])


def _scaled(gradient: torch.Tensor, scale: torch.Tensor | None, client: int) -> torch.Tensor:
    return gradient if scale is None else gradient * scale[client]


def _vectors(norm: Norm, client: int) -> tuple[torch.Tensor, torch.Tensor]:
    _, *own = vectors(norm.weights.data, norm.weights.places, norm.layer, client)
    scale, shift = (computed(vector) for vector in own if vector is not None)
    return scale, shift


def _statistics(norm: Norm, client: int, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    return norm.mean[client, :channels], norm.reciprocal[client, :channels]
