"""Samples as the native engine reads them: the store's bytes in place, or any other store's values, gathered once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy
import torch

from fedlps.data.store import SampleStore
from fedlps.engine.cohort import Indices
from fedlps.engine.result import Part, Samples
from fedlps_kernels import native


def native_samples(
    samples: Samples, used: Iterable[Indices], part: Part, dtype: torch.dtype
) -> tuple[dict[str, Any], Callable[[Indices], Indices]]:
    """Where the used samples of a part lie, and what maps their indices to rows there."""
    if isinstance(samples, SampleStore) and torch.from_numpy(samples.table).dtype == dtype:
        held = samples.parts[part]
        source = {"bytes": held.images, "table": samples.table, "values": None, "labels": held.labels}
        return _pointers(source), _same
    known = numpy.unique(numpy.concatenate([numpy.zeros(0, dtype=numpy.int64), *used]))
    inputs, labels = samples.batch(known, part)
    values = torch.from_numpy(numpy.ascontiguousarray(inputs)).to(dtype).numpy()
    source = {"bytes": None, "table": None, "values": values, "labels": labels.astype(numpy.int64)}
    return _pointers(source), lambda indices: numpy.searchsorted(known, indices).astype(numpy.int64)


def _same(indices: Indices) -> Indices:
    return numpy.ascontiguousarray(indices, dtype=numpy.int64)


def _pointers(source: dict[str, Any]) -> dict[str, Any]:
    arrays = {
        name: None if values is None else torch.from_numpy(numpy.ascontiguousarray(values))
        for name, values in source.items()
    }
    pointers = {name: None if tensor is None else native.array(tensor) for name, tensor in arrays.items()}
    return {**pointers, "alive": arrays}
