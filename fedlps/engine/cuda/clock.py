"""Which step it is, on the device: what each client trains on now, and what became of its steps."""

from __future__ import annotations

import torch

from fedlps.engine.cuda.buffers import Buffers


class Clock:
    """Tables over S steps and C clients; the step's number lies on the device, and `advance` counts it up.

    indices, labels: (S, C, N) of the samples to use, int64 and int32, anything where there are fewer; sizes: (S, C)
    int32; on the CPU. history: units whose selection is noted at every step; 0: nothing is.
    """

    def __init__(
        self,
        buffers: Buffers,
        indices: torch.Tensor,
        labels: torch.Tensor,
        sizes: torch.Tensor,
        dtype: torch.dtype,
        history: int,
    ) -> None:
        steps, clients, batch = indices.shape
        (self._indices,) = buffers.put("step indices", [indices])
        self._labels, self._sizes = buffers.put("step labels", [labels, sizes])

        def zero(name: str, shape: tuple[int, ...], kind: torch.dtype) -> torch.Tensor:
            return buffers.shaped(name, shape, kind).zero_()

        self.step = zero("step", (1,), torch.int64)
        self.losses = zero("losses", (steps, clients), dtype)
        self.kept = zero("kept by step", (steps, clients, history), torch.int32)
        self.hits = zero("hits", (clients,), torch.int64)
        self.seen = zero("seen", (clients,), torch.int64)
        self.taken = zero("steps taken", (clients,), torch.int64)
        self.alive = zero("alive", (clients,), torch.int32).fill_(1)
        self.broken = zero("broken", (clients,), torch.int32)
        self.samples = zero("samples", (clients,), torch.int32)
        self.now_indices = zero("indices", (clients, batch), torch.int64)
        self.now_labels = zero("labels", (clients, batch), torch.int32)
        self.now_losses = zero("loss", (clients,), dtype)
        self.now_hits = zero("hit", (clients,), torch.int32)

    def begin(self, kept: torch.Tensor) -> None:
        """What the step trains on; who has diverged trains on nothing. kept: (C, U)."""
        torch.index_select(self._indices, 0, self.step, out=self.now_indices[None])
        torch.index_select(self._labels, 0, self.step, out=self.now_labels[None])
        torch.mul(self._sizes.index_select(0, self.step)[0], self.alive, out=self.samples)
        if self.kept.numel():
            self.kept.index_copy_(0, self.step, kept[None])

    def advance(self) -> None:
        """Note the step's losses and hits, stop who has diverged, count the step."""
        active = self.samples > 0
        self.losses.index_copy_(0, self.step, self.now_losses[None])
        self.seen += self.samples
        self.hits += torch.where(active, self.now_hits, 0)
        self.taken += active
        lost = (self.broken != 0) | ~torch.isfinite(self.now_losses)
        self.alive.mul_(~(active & lost))
        self.step += 1
