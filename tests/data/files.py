"""Small idx data sets for the tests, written as they are published."""

import gzip
import struct
from pathlib import Path

import numpy

from fedlps.data.idx import STEMS


def encode(values: numpy.ndarray) -> bytes:
    """An idx file's bytes, by the format's description."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def arrays(train: int = 12, test: int = 5, height: int = 4, width: int = 3) -> dict[str, numpy.ndarray]:
    """Values of the four files: three classes, random images."""
    rng = numpy.random.default_rng(0)
    shapes = {"train": train, "t10k": test}
    return {
        stem: rng.integers(0, 256, (count, height, width)).astype(numpy.uint8)
        if "images" in stem
        else (numpy.arange(count) % 3).astype(numpy.uint8)
        for stem in STEMS
        for count in [shapes[stem.split("-")[0]]]
    }


def write(directory: Path, values: dict[str, numpy.ndarray], compressed: bool = True) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for stem, array in values.items():
        content = encode(array)
        if compressed:
            (directory / f"{stem}.gz").write_bytes(gzip.compress(content))
        else:
            (directory / stem).write_bytes(content)
