"""A data set in memory: bytes, labels, and what turns a byte into a network's input."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from fedlps.errors import InputError

Progress = Callable[[str, int, int], None]
"""Told how far a piece of work is: its name, what is done of it, the whole."""

CHUNK = 4096  # images whose histogram is taken at once: bincount widens each byte to 8 bytes


@dataclass(frozen=True, eq=False)
class Samples:
    """Images, uint8 [N, channels, height, width], and labels, int64 [N] from 0; N >= 1."""

    images: NDArray[numpy.uint8]
    labels: NDArray[numpy.int64]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != numpy.uint8 or images.ndim != 4 or images.size == 0:
            raise InputError(
                f"images: got {images.dtype} {list(images.shape)}, "
                f"expected uint8 [N, channels, height, width], not empty"
            )
        if labels.dtype != numpy.int64 or labels.shape != images.shape[:1]:
            raise InputError(
                f"labels: got {labels.dtype} {list(labels.shape)}, expected int64 [{len(images)}], one per image"
            )

    def __len__(self) -> int:
        return len(self.labels)


class Content(NamedTuple):
    """What a reader found. classes: labels are below it. extent: in words, what is here if that is not everything."""

    train: Samples
    test: Samples
    classes: int
    extent: str = ""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test samples of one data set.

    extent: in words, which part of the published data this is; empty: all.
    mean, deviation: float64 [channels] in raw units (bytes, 0 to 255): an input is (byte - mean) / deviation.
    """

    name: str
    train: Samples
    test: Samples
    classes: int
    mean: NDArray[numpy.float64]
    deviation: NDArray[numpy.float64]
    extent: str = ""

    def __post_init__(self) -> None:
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise InputError(
                f"{self.name}: training images are {list(self.input_shape)}, "
                f"test images {list(self.test.images.shape[1:])}; they must agree"
            )
        for part, samples in (("training", self.train), ("test", self.test)):
            low, high = int(samples.labels.min()), int(samples.labels.max())
            if low < 0 or high >= self.classes:
                raise InputError(f"{self.name}: {part} labels are {low} to {high}, allowed 0 to {self.classes - 1}")
        channels = self.input_shape[:1]
        if self.mean.shape != channels or self.deviation.shape != channels or not (self.deviation > 0).all():
            raise InputError(
                f"{self.name}: mean {self.mean} and deviation {self.deviation} need one value for each of "
                f"{channels[0]} channels, deviations above 0"
            )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def fingerprint(self) -> str:
        """BLAKE2b (hex) over everything that training sees: samples in their order, classes and normalization."""
        digest = hashlib.blake2b(digest_size=16)
        arrays = (self.train.images, self.train.labels, self.test.images, self.test.labels, self.mean, self.deviation)
        digest.update(f"classes {self.classes}".encode())
        for array in arrays:
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(numpy.ascontiguousarray(array).data)
        return digest.hexdigest()


def statistics(images: NDArray[numpy.uint8]) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    """Mean and population deviation per channel, float64 [channels] in raw units; a deviation of 0 becomes 1.

    Taken from a histogram, so the sums are exact and no wide copy of the images is made.
    """
    values = numpy.arange(256.0)
    means, deviations = [], []
    for channel in range(images.shape[1]):
        histogram = numpy.zeros(256, numpy.int64)
        for start in range(0, len(images), CHUNK):
            histogram += numpy.bincount(images[start : start + CHUNK, channel].ravel(), minlength=256)
        total = histogram.sum()
        mean = (histogram @ values) / total
        means.append(mean)
        deviations.append(numpy.sqrt((histogram @ (values - mean) ** 2) / total) or 1.0)
    return numpy.array(means), numpy.array(deviations)
