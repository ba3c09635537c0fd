"""Small CIFAR data sets for the tests, as they are published but with few records."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy

from fedlps.data.cifar import PIXELS, Layout

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def values(layout: Layout, count: int, seed: int = 0) -> numpy.ndarray:
    """Records, uint8 [count, bytes]: classes in turn, five fine classes to a coarse one, random pixels."""
    labels = numpy.arange(count) % layout.labels[-1]
    pixels = numpy.random.default_rng(seed).integers(0, 256, (count, PIXELS))
    columns = [labels[:, None]] if len(layout.labels) == 1 else [labels[:, None] // 5, labels[:, None]]
    return numpy.concatenate([*columns, pixels], axis=1).astype(numpy.uint8)


def write(
    directory: Path, layout: Layout, train: int = 30, test: int = 20, ending: str = "", batches: int | None = None
) -> None:
    """The files of a data set; batches: only so many of the training files."""
    directory.mkdir(parents=True, exist_ok=True)
    counts = dict.fromkeys(layout.train[:batches], train) | {layout.test: test}
    for seed, (name, count) in enumerate(counts.items()):
        (directory / f"{name}{ending}").write_bytes(COMPRESS[ending](values(layout, count, seed).tobytes()))
