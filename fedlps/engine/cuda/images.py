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
    """data: (n, channels, height, width), bytes or values; table: (channels, 256), the values of bytes, else None.
    labels: (n,) on the host, where the tables of steps are made.
    """

    data: torch.Tensor
    table: torch.Tensor | None
    labels: NDArray[numpy.int64]


class ImageStore:
    """Hands out images and what maps sample indices to their rows."""

    def __init__(self, samples: Samples, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self.samples, self.dtype, self.device = samples, dtype, device
        self.shape = (*shape, 1, 1)[:3]
        self._bytes: dict[str, Images] = {}

    def of(self, used: Iterable[Indices], part: Part) -> tuple[Images, Callable[[Indices], Indices]]:
        """Images of a part that hold the used samples."""
        if isinstance(self.samples, ByteStore) and torch.from_numpy(self.samples.table).dtype == self.dtype:
            if part not in self._bytes:
                held = self.samples.parts[part]
                table = torch.tensor(self.samples.table, device=self.device)
                self._bytes[part] = Images(torch.tensor(held.images, device=self.device), table, held.labels)
            return self._bytes[part], lambda indices: indices
        known = numpy.unique(numpy.concatenate([numpy.zeros(0, dtype=numpy.int64), *used]))
        inputs, labels = self.samples.batch(known, part)
        values = torch.from_numpy(numpy.ascontiguousarray(inputs)).reshape(-1, *self.shape)
        return Images(values.to(self.device, self.dtype), None, labels), lambda indices: numpy.searchsorted(
            known, indices
        )
