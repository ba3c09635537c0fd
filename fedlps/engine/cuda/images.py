"""Samples on the device: a store's bytes, once for the whole run, or the values that a call uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray

from fedlps.engine.cohort import Indices
from fedlps.engine.native_samples import ByteStore
from fedlps.engine.result import Part, Samples


@dataclass(frozen=True)
class Images:
    """data: (n, channels, height, width), bytes or values; line: (channels, 2), the slope and start that make inputs of
    them. labels: (n,) on the host, where the tables of steps are made.
    """

    data: torch.Tensor
    line: torch.Tensor
    labels: NDArray[numpy.int64]


class ImageStore:
    """Hands out images and what maps sample indices to their rows."""

    def __init__(self, samples: Samples, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self.samples, self.dtype, self.device = samples, dtype, device
        self.shape = (*shape, 1, 1)[:3]
        self._bytes: dict[str, Images] = {}

    def of(self, used: Iterable[Indices], part: Part) -> tuple[Images, Callable[[Indices], Indices]]:
        """Images of a part that hold the used samples."""
        if isinstance(self.samples, ByteStore):
            if part not in self._bytes:
                held = self.samples.parts[part]
                line = torch.from_numpy(self.samples.line).to(self.device, self.dtype)
                self._bytes[part] = Images(torch.from_numpy(held.images).to(self.device), line, held.labels)
            return self._bytes[part], lambda indices: indices
        known = numpy.unique(numpy.concatenate([numpy.zeros(0, dtype=numpy.int64), *used]))
        inputs, labels = self.samples.batch(known, part)
        values = torch.from_numpy(numpy.ascontiguousarray(inputs)).reshape(-1, *self.shape)
        same = torch.tensor([[1.0, 0.0]] * self.shape[0], dtype=self.dtype, device=self.device)
        images = Images(values.to(self.device, self.dtype), same, labels)
        return images, lambda indices: numpy.searchsorted(known, indices)
