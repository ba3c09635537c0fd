"""scikit-learn's 1,797 handwritten digits, 8x8: the data set that needs no file and no network."""

import importlib.util
from pathlib import Path

import numpy

from fedlps.data.dataset import Samples
from fedlps.errors import InputError
from fedlps.randomness import Purpose, stream

TRAIN = 1437  # of 1,797; the rest is the test set


def read(_: Path | None = None) -> tuple[Samples, Samples]:
    """Training and test samples, uint8 [N, 1, 8, 8] with values 0 to 16, divided alike whatever a run's seed."""
    # a row per image: 64 values and the label
    rows = numpy.loadtxt(_file(), delimiter=",", dtype=numpy.int64)
    images, labels = rows[:, :-1].astype(numpy.uint8).reshape(-1, 1, 8, 8), rows[:, -1]
    order = stream(0, Purpose.DIGITS_DIVISION).permutation(len(labels))
    train, test = order[:TRAIN], order[TRAIN:]
    return Samples(images[train], labels[train]), Samples(images[test], labels[test])


def _file() -> Path:
    """The file itself: `sklearn.datasets.load_digits` reads it too, but importing that takes more than a second."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise InputError("data.name: got digits, but scikit-learn, which has them, is not installed")
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
