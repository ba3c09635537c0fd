"""Reader of CIFAR-10 and CIFAR-100 in their binary versions: records of labels and one image; raw, gzip or xz.

Record: the label's byte (CIFAR-100: the coarse label's, then the fine label's), then 1,024 red, 1,024 green and 1,024
blue bytes, each plane row by row, 32x32 (Krizhevsky's page, "Binary version").
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy
from numpy.typing import NDArray

from fedlps.data import compressed
from fedlps.data.dataset import Content, Progress, Samples
from fedlps.errors import InputError

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """One of the two data sets.

    labels: how many each label byte allows; the last one is the class. train, test: the published files' names.
    train_records, test_records: in each of them. folder: what the published archive unpacks to.
    subsets: other names that the files of a part may have if they need not be whole.
    """

    title: str
    labels: tuple[int, ...]
    train: tuple[str, ...]
    train_records: int
    test: str
    test_records: int
    folder: str
    subsets: tuple[str, ...] = ()

    @property
    def record(self) -> int:
        """Bytes of a record."""
        return len(self.labels) + PIXELS


CIFAR10 = Layout(
    "CIFAR-10",
    labels=(10,),
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    train_records=10_000,
    test="test_batch.bin",
    test_records=10_000,
    folder="cifar-10-batches-bin",
)
CIFAR100 = Layout(
    "CIFAR-100",
    labels=(20, 100),
    train=("train.bin",),
    train_records=50_000,
    test="test.bin",
    test_records=10_000,
    folder="cifar-100-binary",
    subsets=("train_subset.bin", "test_subset.bin"),
)


def find(layout: Layout, directory: Path, partial: bool) -> dict[str, Path]:
    """The files there by their published name; those that are not there are left out.

    They lie in the directory itself or in the folder of the published archive, raw or compressed. partial: CIFAR-100's
    may also be called train_subset.bin and test_subset.bin.
    """
    found = {}
    others = dict(zip((*layout.train, layout.test), layout.subsets, strict=False)) if partial else {}
    for name in (*layout.train, layout.test):
        for folder in (directory, directory / layout.folder):
            for given in (name, others.get(name, name)):
                if name not in found and (path := compressed.find(folder, given)):
                    found[name] = path
    return found


def missing(layout: Layout, directory: Path, partial: bool) -> list[str]:
    """Names of the files that `read` needs and that are not there; partial: one training file is enough."""
    found = find(layout, directory, partial)
    train = [name for name in layout.train if name not in found]
    if partial and len(train) < len(layout.train):
        train = []
    test = [] if layout.test in found else [layout.test]
    subsets = dict(zip((*layout.train, layout.test), layout.subsets, strict=False)) if partial else {}
    return [f"{name}[.gz|.xz]{f' (or {subsets[name]})' if name in subsets else ''}" for name in (*train, *test)]


def read(layout: Layout, directory: Path, partial: bool, _: Progress | None = None) -> Content:
    """Training and test samples of a directory in which nothing is `missing`: batches in order, labels the classes.

    partial: accept fewer than all published images; `extent` then says how many there are.
    InputError names the file that is cut short or damaged, holds the other data set, a label out of range, too many or
    (unless partial) too few records; a directory with files of both data sets.
    """
    _check_alone(layout, directory)
    files = find(layout, directory, partial)
    batches = [name for name in layout.train if name in files]
    train = _samples(layout, [files[name] for name in batches], layout.train_records, partial)
    test = _samples(layout, [files[layout.test]], layout.test_records, partial)
    published = len(layout.train) * layout.train_records
    extent = ""
    if len(train) < published or len(test) < layout.test_records:
        extent = (
            f"{len(train)} of {published} training images ({len(batches)} of {len(layout.train)} files: "
            f"{', '.join(files[name].name for name in batches)}), {len(test)} of {layout.test_records} test images"
        )
    return Content(train, test, layout.labels[-1], extent)


def records(layout: Layout, path: Path, most: int) -> NDArray[numpy.uint8]:
    """The records of one file, uint8 [N, bytes of a record], 1 <= N <= most; labels checked. InputError names it."""
    source = compressed.source(path)
    content = source.take(most * layout.record + 1)
    size = len(content)
    if size > most * layout.record:
        raise InputError(f"{path}: more than {most} records of {layout.record} bytes, which {layout.title} has")
    source.finish(f"{size} bytes")
    other = _other(layout)
    if size == 0 or size % layout.record:
        if size and size % other.record == 0:
            raise InputError(
                f"{path}: holds {size // other.record} records of {other.title} ({other.record} bytes each), "
                f"expected {layout.title}'s, of {layout.record} bytes"
            )
        raise InputError(
            f"{path}: truncated: {size} bytes are {size // layout.record} records of {layout.record} bytes "
            f"and {size % layout.record} bytes of another"
        )
    values = numpy.frombuffer(content, numpy.uint8).reshape(-1, layout.record)
    for column, allowed in enumerate(layout.labels):
        wrong = numpy.flatnonzero(values[:, column] >= allowed)
        if len(wrong):
            kind = "coarse label" if column < len(layout.labels) - 1 else "label"
            raise InputError(
                f"{path}: record {wrong[0]} of {len(values)} has {kind} {values[wrong[0], column]}, "
                f"allowed 0 to {allowed - 1}"
            )
    return values


def _other(layout: Layout) -> Layout:
    return CIFAR100 if layout.title == CIFAR10.title else CIFAR10


def _samples(layout: Layout, paths: list[Path], most: int, partial: bool) -> Samples:
    """The samples of files, one behind the other."""
    with ThreadPoolExecutor() as pool:  # unpacking lets other threads run
        files = list(pool.map(lambda path: records(layout, path, most), paths))
    images, labels = [], []
    for path, values in zip(paths, files, strict=True):
        if len(values) < most and not partial:
            raise InputError(
                f"{path}: holds {len(values)} records, {layout.title} has {most} there; data.partial=true accepts fewer"
            )
        _check_coarse(path, values[:, : len(layout.labels)])
        labels.append(values[:, len(layout.labels) - 1].astype(numpy.int64))
        images.append(values[:, len(layout.labels) :].reshape(-1, *SHAPE))
    return Samples(numpy.concatenate(images), numpy.concatenate(labels))


def _check_coarse(path: Path, labels: NDArray[numpy.uint8]) -> None:
    """A class belongs to one coarse class only."""
    pairs = numpy.unique(labels[:, ::-1], axis=0)
    twice = numpy.flatnonzero(numpy.diff(pairs[:, 0]) == 0)
    if len(twice):
        fine, coarse = pairs[twice[0]][0], pairs[twice[0] : twice[0] + 2, -1]
        raise InputError(f"{path}: label {fine} stands with coarse labels {coarse[0]} and {coarse[1]}; expected one")


def _check_alone(layout: Layout, directory: Path) -> None:
    other = _other(layout)
    foreign = next(_foreign(other, directory), None)
    if foreign is not None:
        raise InputError(
            f"{foreign}: belongs to {other.title}, but beside it lie files of {layout.title}; keep each in a directory "
            f"of its own"
        )


def _foreign(other: Layout, directory: Path) -> Iterator[Path]:
    for name in (*other.train, other.test, *other.subsets):
        for folder in (directory, directory / other.folder):
            if path := compressed.find(folder, name):
                yield path
