"""What lies at a path: which files of which data set, whether they are the published ones, and what they hold."""

from pathlib import Path

import numpy

from fedlps.data import cifar, idx, pack, tiny_imagenet
from fedlps.data.catalog import CATALOG
from fedlps.data.dataset import Content, Progress
from fedlps.data.download import sha256_of
from fedlps.errors import InputError

PACK_HEADER = slice(8, 9)  # of a safetensors file: behind the header's length the header begins with a brace


def check(path: str | Path, progress: Progress | None = None) -> list[str]:
    """Lines about a directory of a data set, or about one idx file or pack; every byte is read.

    progress: told of slow work. InputError: nothing there, files missing, damaged, or at odds with each other.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return [_file_line(place)]
    if not place.is_dir():
        raise InputError(f"{place}: no such file or directory")
    for layout in (cifar.CIFAR10, cifar.CIFAR100):
        if cifar.find(layout, place, partial=True):
            return _cifar(layout, place)
    if (place / tiny_imagenet.FOLDER).is_dir() or (place / tiny_imagenet.CLASS_LIST).is_file():
        _check_there(place, tiny_imagenet.missing(place))
        return [_summary(tiny_imagenet.read(place, True, progress))]
    return _idx(place)


def _idx(place: Path) -> list[str]:
    found = idx.find(place)
    if not found:
        names = (*idx.STEMS, cifar.CIFAR10.test, cifar.CIFAR100.test)
        raise InputError(
            f"{place}: holds no data set; looked for {', '.join(names)} "
            f"(each raw, .gz or .xz) and {tiny_imagenet.CLASS_LIST}"
        )
    if missing := [stem for stem in idx.STEMS if stem not in found]:
        raise InputError(f"{place}: incomplete: {', '.join(missing)} (raw, .gz or .xz) not found")
    lines = [_file_line(found[stem]) for stem in idx.STEMS]
    train, test = idx.read_directory(place)
    return [*lines, _summary(Content(train, test, int(train.labels.max()) + 1))]


def _cifar(layout: cifar.Layout, place: Path) -> list[str]:
    _check_there(place, cifar.missing(layout, place, True))
    content = cifar.read(layout, place, partial=True)
    files = cifar.find(layout, place, partial=True).values()
    most = max(layout.train_records, layout.test_records)
    lines = [
        f"{file.name}: {file.stat().st_size} bytes; {len(cifar.records(layout, file, most))} records of {layout.title}"
        for file in files
    ]
    return [*lines, _summary(content)]


def _check_there(place: Path, missing: list[str]) -> None:
    if missing:
        raise InputError(f"{place}: incomplete: {', '.join(missing)} not found")


def _summary(content: Content) -> str:
    height, width = content.train.images.shape[2:]
    counts = numpy.bincount(content.train.labels, minlength=content.classes)
    part = f"; incomplete: {content.extent}" if content.extent else ""
    return (
        f"{len(content.train)} training and {len(content.test)} test images of {height} x {width}, "
        f"{content.classes} classes, {counts.min()} to {counts.max()} training images each{part}"
    )


def _file_line(path: Path) -> str:
    with path.open("rb") as stream:
        start = stream.read(PACK_HEADER.stop)
    if start[PACK_HEADER] == b"{":
        return pack.describe(path)
    values = idx.read(path)
    if values.ndim == 1:
        content = f"{len(values)} labels, {values.min()} to {values.max()}"
    else:
        content = f"{len(values)} images of {values.shape[1]} x {values.shape[2]}"
    return f"{path.name}: {path.stat().st_size} bytes, {_origin(path)}; {content}"


def _origin(path: Path) -> str:
    digest = sha256_of(path)
    for name, entry in CATALOG.items():
        if any(digest == file.sha256 for file in entry.files):
            return f"checksum is that of {name}"
    return f"checksum of no data set known here (SHA-256 {digest})"
