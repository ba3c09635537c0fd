"""Samples as the native engine reads them: the store's bytes in place, or any other store's values, gathered once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy
import torch
from numpy.typing import NDArray

from fedlps.engine.cohort import Indices
from fedlps.engine.result import Part, Samples
from fedlps_kernels import native


class Bytes(Protocol):
    """Samples of one part: images uint8 (N, channels, height, width), labels int64 (N,)."""

    @property
    def images(self) -> NDArray[numpy.uint8]: ...

    @property
    def labels(self) -> NDArray[numpy.int64]: ...


@runtime_checkable
class ByteStore(Protocol):
    """A store whose samples are bytes in memory.

    table: (channels, 256), what each byte becomes; line: (channels, 2) float64, the slope and start of that.
    """

    table: NDArray[Any]
    line: NDArray[numpy.float64]
    parts: Mapping[str, Bytes]


def native_samples(
    samples: Samples, used: Iterable[Indices], part: Part, dtype: torch.dtype
) -> tuple[dict[str, Any], Callable[[Indices], Indices]]:
    """Where the used samples of a part lie, and what maps their indices to rows there."""
    if isinstance(samples, ByteStore) and torch.from_numpy(samples.table).dtype == dtype:
        held = samples.parts[part]
        read = {"bytes": held.images, "table": samples.table, "line": samples.line, "labels": held.labels}
        return _pointers(**read, values=None), _same
    known = numpy.unique(numpy.concatenate([numpy.zeros(0, dtype=numpy.int64), *used]))
    inputs, labels = samples.batch(known, part)
    values = torch.from_numpy(numpy.ascontiguousarray(inputs)).to(dtype).numpy()
    source = _pointers(bytes=None, table=None, line=None, values=values, labels=labels.astype(numpy.int64))
    return source, lambda indices: numpy.searchsorted(known, indices).astype(numpy.int64)


def _same(indices: Indices) -> Indices:
    return numpy.ascontiguousarray(indices, dtype=numpy.int64)


def _pointers(**source: NDArray[Any] | None) -> dict[str, Any]:
    # not through torch, which warns of arrays that are read-only
    held = {name: None if values is None else numpy.ascontiguousarray(values) for name, values in source.items()}
    pointers = {name: None if values is None else native.numpy_array(values) for name, values in held.items()}
    return {**pointers, "alive": held}
