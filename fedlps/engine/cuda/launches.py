"""What an implementation must compute, for all clients in every call: one method per kernel.

C clients, L layers, G groups, U units, P parameters; N samples that there is room for. `samples`: (C,) int32 on the
device, how many samples of each client are real now; of a client with none nothing changes. `Places` say where the
entries of weights lie in a flat buffer, an `Arena` where activations do. Outputs are made by the caller; pads are zero
and stay so. No call waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch

from fedlps.engine.cuda.network import Network
from fedlps.engine.plan import Reduction
from fedlps_kernels.arena import Arena
from fedlps_kernels.places import Places

Precision = Literal["fp32", "tf32", "bf16"]


@dataclass(frozen=True)
class Packed:
    """Weights, or their gradients, of all clients: a flat buffer and where their entries lie in it."""

    data: torch.Tensor
    places: Places


@dataclass(frozen=True)
class Window:
    """Of a convolution or a pooling."""

    kernel: int
    stride: int
    padding: int = 0


@dataclass(frozen=True)
class Norm:
    """A batch-statistics norm: mean and 1 / deviation, (C, widest), and the layer whose scale and shift it has."""

    layer: int
    mean: torch.Tensor
    reciprocal: torch.Tensor
    weights: Packed


@dataclass(frozen=True)
class Chain:
    """What a stage does, in this order; `relu` and a maximum may change places. number: of the network's operation."""

    number: int
    norm: Norm | None
    relu: bool
    pool: Literal["max", "avg"] | None
    window: int


@dataclass(frozen=True)
class Rates:
    """The optimiser of all clients. lr: (1,), in the masters' dtype, on the device; clip 0: none."""

    lr: torch.Tensor
    momentum: float
    weight_decay: float
    clip: float


@dataclass(frozen=True)
class Pull:
    """A gradient term coefficient (w - reference). reference: (P,) of all clients, or (C, P)."""

    coefficient: float
    reference: torch.Tensor


@dataclass(frozen=True)
class Learning:
    """How redundancies (C, U) are learned: `fedlps.engine.plan.Learned`.

    gates: (C, U), the gates' gradients t, None where kappa is 0. sums: (C, U), a(w) of the masters. dropped: (C, U), of
    each kept unit's sum what lies in columns that are not kept. changed: (C, G) int32, whether the selection differs
    from that of the step before.
    """

    redundancy: torch.Tensor
    strength: float
    kappa: float
    reduction: Reduction
    gates: torch.Tensor | None
    sums: torch.Tensor
    dropped: torch.Tensor
    changed: torch.Tensor


class Weights(Protocol):
    """Kernels over the clients' masters, (C, P), and their selections: kept (C, U) int32, counts (C, G) int32."""

    def unit_abs_sum(self, masters: torch.Tensor, sums: torch.Tensor) -> None:
        """All of a(w)."""
        ...

    def dropped_sums(self, masters: torch.Tensor, kept: torch.Tensor, counts: torch.Tensor, learning: Learning) -> None:
        """learning.dropped of the clients whose selection has changed."""
        ...

    def select_units(self, learning: Learning, counts: torch.Tensor, alive: torch.Tensor, kept: torch.Tensor) -> None:
        """Of clients that are alive, (C,) int32, the counts smallest redundancies; and whose selections changed."""
        ...

    def move(
        self,
        source: Packed,
        target: Packed,
        kept: torch.Tensor | None,
        counts: torch.Tensor,
        *,
        rounds: bool,
        widths: torch.Tensor | None = None,
    ) -> None:
        """Entries of source to target. kept: where the source holds all. rounds: to what products multiply.

        widths: (C, G) int32, the leading ones of the counts; what is of others becomes 0, and so do all activations of
        theirs and their gradients. None: all.
        """
        ...

    def gate_gradient(
        self,
        masters: torch.Tensor,
        gradient: Packed,
        kept: torch.Tensor,
        counts: torch.Tensor,
        gates: torch.Tensor,
    ) -> None:
        """Of kept units, the sum of w g over scale and shift, of a layer without norm over row and bias; else 0."""
        ...

    def importance_step(self, learning: Learning, rates: Rates, samples: torch.Tensor, broken: torch.Tensor) -> None:
        """One step of the redundancies; broken: (C,) int32, set where one becomes non-finite, never read."""
        ...

    def scatter_update(
        self,
        masters: torch.Tensor,
        gradient: Packed,
        kept: torch.Tensor,
        counts: torch.Tensor,
        pulls: Sequence[Pull],
        rates: Rates,
        velocity: torch.Tensor | None,
        learning: Learning | None,
        samples: torch.Tensor,
        broken: torch.Tensor,
        widths: torch.Tensor | None = None,
    ) -> None:
        """One step of the kept entries; learning.sums of what it wrote; broken as above.

        widths: (K, C, G) int32, the leading units of K submodels; what is in none of them stays as it is. None: all.
        """
        ...


class Products(Protocol):
    """Kernels over activations. scale: (C,), what the biased outputs of a product are multiplied by, or None."""

    def prepare(self, network: Network, counts: torch.Tensor, batch: int, trains: bool) -> None:
        """Once a round, on the host: what launches want to know beside their arguments, such as lists of tiles.

        counts: (C, G) int64 on the CPU. batch: N. trains: whether gradients are wanted too.
        """
        ...

    def bytes(self, network: Network, counts: torch.Tensor, batch: int, trains: bool) -> int:
        """What `prepare` takes on the device for these clients, at most."""
        ...

    def gather(
        self,
        images: torch.Tensor,
        table: torch.Tensor | None,
        indices: torch.Tensor,
        samples: torch.Tensor,
        outputs: Arena,
    ) -> None:
        """Batches. images: (n, channels, height, width), bytes that table (channels, 256) says the values of, or
        values; indices: (C, N).
        """
        ...

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
        """A convolution, or without a window a linear layer on `flattened` inputs."""
        ...

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
        """From the gradient of the outputs to that of the inputs. weights: transposed, but in bf16 the packed ones."""
        ...

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
        """Of weight and bias, at their places."""
        ...

    def statistics(self, inputs: Arena, samples: torch.Tensor, norm: Norm) -> None:
        """norm.mean and norm.reciprocal over samples and positions."""
        ...

    def stage(self, inputs: Arena, samples: torch.Tensor, outputs: Arena, chain: Chain) -> None:
        """Norm, ReLU, pooling."""
        ...

    def stage_gradient(
        self, inputs: Arena, gradient: Arena, samples: torch.Tensor, result: Arena, chain: Chain, vectors: Packed
    ) -> None:
        """From the gradient of the outputs to that of the inputs, and of the norm's scale and shift in vectors."""
        ...

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
        """Mean cross entropy with labels (C, N) int32, its gradient; losses (C,) and hits (C,) int32 of each client.

        The largest logit is the answer, of equal ones the lower class. teacher: logits whose softmax takes the labels'
        place in the loss.
        """
        ...


class Launches(NamedTuple):
    """Both halves."""

    products: Products
    weights: Weights
