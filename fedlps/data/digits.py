"""scikit-learn's 1,797 handwritten digits, 8x8: the data set that needs no file and no network."""

from pathlib import Path

import numpy

from fedlps.data.dataset import Samples
from fedlps.randomness import Purpose, stream

TRAIN = 1437  # of 1,797; the rest is the test set


def read(_: Path | None = None) -> tuple[Samples, Samples]:
    """Training and test samples, uint8 [N, 1, 8, 8] with values 0 to 16, divided alike whatever a run's seed."""
    from sklearn.datasets import load_digits  # imported late: it takes a second, and only this data set needs it

    bunch = load_digits()
    images = bunch.images.astype(numpy.uint8)[:, None]
    labels = bunch.target.astype(numpy.int64)
    order = stream(0, Purpose.DIGITS_DIVISION).permutation(len(labels))
    train, test = order[:TRAIN], order[TRAIN:]
    return Samples(images[train], labels[train]), Samples(images[test], labels[test])
