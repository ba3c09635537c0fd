"""Memory of the device at fixed addresses: a captured graph may be replayed as long as none has moved."""

from __future__ import annotations

from collections.abc import Sequence

import torch

ALIGNED = 64  # elements between tensors that share a buffer


class Buffers:
    """Flat tensors by name, each as large as anyone has asked for. generation counts how often one was moved."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.generation = 0
        self._held: dict[str, torch.Tensor] = {}

    @property
    def bytes(self) -> int:
        """What all of them take."""
        return sum(held.nbytes for held in self._held.values())

    def take(self, name: str, entries: int, dtype: torch.dtype, room: int = 0) -> torch.Tensor:
        """A buffer of at least so many entries, unset. room: entries to make, where a new one has to be made."""
        held = self._held.get(name)
        if held is not None and held.dtype == dtype and len(held) >= entries:
            return held
        self.generation += 1
        held = self._held[name] = torch.empty(0)  # the old one goes before the new one comes
        held = self._held[name] = torch.zeros(max(entries, room, 1), dtype=dtype, device=self.device)
        return held

    def shaped(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """The beginning of a buffer, in a shape."""
        size = torch.Size(shape).numel()
        return self.take(name, size, dtype)[:size].view(shape)

    def put(self, name: str, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Tensors of one dtype from the host, in one copy."""
        starts, end = [], 0
        for tensor in tensors:
            starts.append(end)
            end += -(-tensor.numel() // ALIGNED) * ALIGNED
        dtype = tensors[0].dtype
        staged = torch.zeros(end, dtype=dtype, pin_memory=self.device.type == "cuda")
        for start, tensor in zip(starts, tensors, strict=True):
            staged[start : start + tensor.numel()] = tensor.reshape(-1)
        held = self.take(name, end, dtype)
        held[:end].copy_(staged, non_blocking=True)
        return [held[s : s + tensor.numel()].view(tensor.shape) for s, tensor in zip(starts, tensors, strict=True)]

    def release(self) -> None:
        """Give everything back."""
        self._held.clear()
        self.generation += 1
