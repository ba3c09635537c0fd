"""Kernels over masters and selections by the native module's CUDA part."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.launches import Learning, Packed, Precision, Pull, Rates
from fedlps_kernels.gather_weights import cuda as gathering
from fedlps_kernels.importance_step import cuda as importance
from fedlps_kernels.layout import Layout
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.scatter_update import cuda as updating
from fedlps_kernels.select_units import cuda as selection
from fedlps_kernels.unit_abs_sum import cuda as sums_

ROUNDINGS = {"fp32": "none", "tf32": "tf32", "bf16": "bf16"}


class ScatteredWeights:
    """`launches.Weights`. Memory that a launch needs for itself lies in buffers, where captured launches find it."""

    def __init__(self, layout: Layout, precision: Precision, buffers: Buffers) -> None:
        self.buffers, self.rounding = buffers, ROUNDINGS[precision]
        self.model = OnDevice.of(layout, buffers.device)

    def unit_abs_sum(self, masters: torch.Tensor, sums: torch.Tensor) -> None:
        """One launch."""
        sums_.unit_abs_sum(masters, self.model, sums)

    def dropped_sums(self, masters: torch.Tensor, kept: torch.Tensor, counts: torch.Tensor, learning: Learning) -> None:
        """Ranks of the kept units, then the sums."""
        ranks = self.buffers.shaped("ranks", tuple(kept.shape), torch.int32)
        updating.rank_units(kept, counts, self.model, ranks)
        given = masters, kept, counts, ranks, self.model, learning.dropped
        updating.dropped_sums(*given, changed=learning.changed)

    def select_units(self, learning: Learning, counts: torch.Tensor, alive: torch.Tensor, kept: torch.Tensor) -> None:
        """The smallest of all clients in one launch."""
        told = {"samples": alive, "changed": learning.changed}
        selection.select_units(learning.redundancy, counts, self.model, kept, negated=True, **told)

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
        """One launch."""
        rounding = self.rounding if rounds else "none"
        given = source.data, source.places, target.data, target.places, counts, self.model
        gathering.move(*given, taken=kept, rounding=rounding, widths=widths)

    def gate_gradient(
        self,
        masters: torch.Tensor,
        gradient: Packed,
        kept: torch.Tensor,
        counts: torch.Tensor,
        gates: torch.Tensor,
    ) -> None:
        """Of kept units by the kernel."""
        gates.zero_()
        updating.gate_gradients(masters, gradient.data, gradient.places, kept, counts, self.model, gates)

    def importance_step(self, learning: Learning, rates: Rates, samples: torch.Tensor, broken: torch.Tensor) -> None:
        """In place."""
        d = learning.redundancy
        importance.importance_step(
            *(d, learning.sums, learning.gates, self.model, d),
            lr=rates.lr,
            lam=learning.strength,
            kappa=learning.kappa,
            reduction=learning.reduction,
            samples=samples,
            lost=broken,
        )

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
        """One launch, three with clip."""
        clients, room = len(masters), None
        if rates.clip > 0:
            squares = self.buffers.shaped("squares", (clients, self.model.lines), torch.float64)
            room = updating.ClipRoom(squares, self.buffers.shaped("factors", (clients,), torch.float64))
        towards = [(pull.coefficient, pull.reference) for pull in pulls]
        updating.scatter_update(
            *(masters, gradient.data, gradient.places, towards, kept, counts, self.model),
            lr=rates.lr,
            weight_decay=rates.weight_decay,
            clip=rates.clip,
            momentum=rates.momentum,
            velocity=velocity,
            room=room,
            samples=samples,
            lost=broken,
            widths=widths,
            dropped=None if learning is None else learning.dropped,
            sums=None if learning is None else learning.sums,
        )
