"""Which step it is, on the device: what each client trains on now, and what became of its steps."""

from __future__ import annotations

import torch

from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.launches import Launches


class Clock:
    """Tables over S steps and C clients; the step's number lies on the device, and `advance` counts it up.

    indices, labels: (S, C, N) of the samples to use, int64 and int32, anything where there are fewer; sizes: (S, C)
    int32. broken: (C,) int32, whether the start is not finite already. Everything on the CPU; room: rows to make.
    """

    def __init__(
        self,
        buffers: Buffers,
        indices: torch.Tensor,
        labels: torch.Tensor,
        sizes: torch.Tensor,
        room: int,
        dtype: torch.dtype,
        history: int = 0,
    ) -> None:
        steps, clients, batch = indices.shape
        self.steps = steps
        behind = torch.zeros((room - steps, clients), dtype=torch.int32)
        self._indices = buffers.shaped("step indices", (room, clients, batch), torch.int64)
        self._indices[:steps].copy_(indices, non_blocking=True)
        (given,) = buffers.put("step labels", [_lengthened(labels, room)])
        self._labels = given
        (self._sizes,) = buffers.put("step sizes", [torch.cat([sizes, behind])])
        self.step = _zero(buffers, "step", (1,), torch.int64)
        self.losses = _zero(buffers, "losses", (room, clients), dtype)
        self.kept = _zero(buffers, "kept by step", (room, clients, history), torch.int32) if history else None
        self.hits = _zero(buffers, "hits", (clients,), torch.int64)
        self.seen = _zero(buffers, "seen", (clients,), torch.int64)
        self.taken = _zero(buffers, "steps taken", (clients,), torch.int64)
        self.alive = _zero(buffers, "alive", (clients,), torch.int32).fill_(1)
        self.broken = _zero(buffers, "broken", (clients,), torch.int32)
        self.samples = _zero(buffers, "samples", (clients,), torch.int32)
        self.now_indices = _zero(buffers, "indices", (clients, batch), torch.int64)
        self.now_labels = _zero(buffers, "labels", (clients, batch), torch.int32)
        self.now_losses = _zero(buffers, "loss", (clients,), dtype)
        self.now_hits = _zero(buffers, "hit", (clients,), torch.int32)

    def begin(self, kept: torch.Tensor) -> None:
        """What the step trains on; who has diverged trains on nothing. kept: (C, U)."""
        torch.index_select(self._indices, 0, self.step, out=self.now_indices[None])
        torch.index_select(self._labels, 0, self.step, out=self.now_labels[None])
        torch.mul(self._sizes.index_select(0, self.step)[0], self.alive, out=self.samples)
        if self.kept is not None:
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


def _zero(buffers: Buffers, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return buffers.shaped(name, shape, dtype).zero_()


def _lengthened(table: torch.Tensor, rows: int) -> torch.Tensor:
    longer = table.new_zeros((rows, *table.shape[1:]))
    longer[: len(table)] = table
    return longer
