"""What lies at a path: which files of which data set, whether they are the published ones, and what they hold."""

from pathlib import Path

import numpy

from fedlps.data import idx
from fedlps.data.catalog import CATALOG
from fedlps.data.download import sha256_of
from fedlps.errors import InputError


def check(path: str | Path) -> list[str]:
    """Lines about a directory of idx files, or about one such file; every byte is read.

    InputError: nothing there, files missing, damaged, or at odds with each other.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return [_file_line(place)]
    if not place.is_dir():
        raise InputError(f"{place}: no such file or directory")
    found = idx.find(place)
    if not found:
        raise InputError(f"{place}: holds no data set; looked for {', '.join(idx.STEMS)}, each raw or .gz")
    if missing := [stem for stem in idx.STEMS if stem not in found]:
        raise InputError(f"{place}: incomplete: {', '.join(missing)} (raw or .gz) not found")
    lines = [_file_line(found[stem]) for stem in idx.STEMS]
    train, test = idx.read_directory(place)
    height, width = train.images.shape[2:]
    counts = numpy.bincount(train.labels)
    lines.append(
        f"{len(train)} training and {len(test)} test images of {height} x {width}, {len(counts)} classes, "
        f"{counts.min()} to {counts.max()} training images each"
    )
    return lines


def _file_line(path: Path) -> str:
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
