"""The sample store: bytes in memory, normalized when a batch is gathered."""

from typing import Literal

import numpy
from numpy.typing import DTypeLike, NDArray

from fedlps.data.dataset import Dataset


class SampleStore:
    """Batches of one data set in one floating type.

    table: [channels, 256] in that type: what each byte becomes, (byte - mean) / deviation in float64, rounded once.
    line: [channels, 2] float64, slope and start: what the table rounds, up to float64's own rounding.
    """

    def __init__(self, dataset: Dataset, dtype: DTypeLike = numpy.float32) -> None:
        values = (numpy.arange(256.0) - dataset.mean[:, None]) / dataset.deviation[:, None]
        self.table = values.astype(dtype)
        self.line = numpy.stack([1 / dataset.deviation, -dataset.mean / dataset.deviation], axis=1)
        self.parts = {"train": dataset.train, "test": dataset.test}

    def batch(
        self, indices: NDArray[numpy.int64], part: Literal["train", "test"] = "train"
    ) -> tuple[NDArray[numpy.floating], NDArray[numpy.int64]]:
        """Samples of the named part in the given order: inputs [B, channels, height, width] and labels int64 [B]."""
        samples = self.parts[part]
        images, labels = samples.images.take(indices, axis=0), samples.labels[indices]
        # a byte cannot leave the table; "clip" only spares the check, which is half of take's time
        if len(self.table) == 1:
            return self.table[0].take(images, mode="clip"), labels
        inputs = numpy.empty(images.shape, self.table.dtype)
        for channel, values in enumerate(self.table):
            inputs[:, channel] = values.take(images[:, channel], mode="clip")
        return inputs, labels
