"""Which data sets there are, where their files are looked for, and loading one by name."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy
import platformdirs

from fedlps.data import digits, idx
from fedlps.data.dataset import Dataset, Samples, statistics
from fedlps.errors import InputError


@dataclass(frozen=True)
class File:
    """One file as it is published: its name, size in bytes and SHA-256 (hex)."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One data set.

    read: directory -> training and test samples.
    missing: directory -> names of the files that `read` needs and that are not there.
    files, mirrors: what `get` downloads; mirrors are addresses that end in a slash.
    normalization: mean and deviation per channel of value / 255; None: the training set's own.
    """

    read: Callable[[Path], tuple[Samples, Samples]]
    missing: Callable[[Path], list[str]]
    files: tuple[File, ...] = ()
    mirrors: tuple[str, ...] = ()
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def _idx_missing(directory: Path) -> list[str]:
    found = idx.find(directory)
    return [f"{stem}[.gz]" for stem in idx.STEMS if stem not in found]


def _idx_files(*published: tuple[int, str]) -> tuple[File, ...]:
    return tuple(File(f"{stem}.gz", size, sha256) for stem, (size, sha256) in zip(idx.STEMS, published, strict=True))


CATALOG = {
    "digits": Entry(read=digits.read, missing=lambda _: []),
    "mnist": Entry(
        read=idx.read_directory,
        missing=_idx_missing,
        files=_idx_files(
            (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        normalization=((0.1307,), (0.3081,)),
    ),
    "fashion_mnist": Entry(
        read=idx.read_directory,
        missing=_idx_missing,
        files=_idx_files(
            (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
    ),
    "kmnist": Entry(
        read=idx.read_directory,
        missing=_idx_missing,
        files=_idx_files(
            (18165135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
            (29497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
            (3041136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
            (5120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
        ),
        mirrors=(
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
    ),
}


def entry(name: str) -> Entry:
    """The catalog's entry of a data set; InputError for a name that is not there."""
    if name not in CATALOG:
        close = get_close_matches(name, CATALOG, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise InputError(f"data.name: unknown data set {name!r}{hint}; there are {', '.join(CATALOG)}")
    return CATALOG[name]


def directory(name: str, root: str | Path | None = None) -> Path:
    """Where a data set's files belong: root, else $FEDLPS_DATA/<name>, else the user's cache directory."""
    if root is not None:
        return Path(root).expanduser()
    if collection := os.environ.get("FEDLPS_DATA"):
        return Path(collection).expanduser() / name
    return Path(platformdirs.user_cache_dir("fedlps")) / "data" / name


def load(name: str, root: str | Path | None = None, partial: bool = False) -> Dataset:
    """Read a data set into memory.

    root: its own directory, instead of the places that `directory` names.
    partial: accept a training set of which published parts are missing.
    InputError: unknown name, missing directory or files, damaged files.
    """
    chosen = entry(name)
    if partial:
        raise InputError(f"data.partial: got true, but {name} is not published in parts; allowed: false")
    if root is not None and not chosen.files:
        raise InputError(f"data.root: got {root}, but {name} comes with scikit-learn and reads no files; leave it out")
    place = directory(name, root)
    if missing := chosen.missing(place):
        raise InputError(
            f"data set {name}: {', '.join(missing)} not found in {place}"
            f"{'' if place.is_dir() else ' (no such directory)'}; run `fedlps data get {name}`, or give "
            f"data.root=DIRECTORY_OF_THE_FILES, or set FEDLPS_DATA to a directory that holds them in {name}/"
        )
    train, test = chosen.read(place)
    if chosen.normalization is None:
        mean, deviation = statistics(train.images)
    else:
        mean, deviation = (255.0 * numpy.array(values) for values in chosen.normalization)
    return Dataset(name, train, test, int(train.labels.max()) + 1, mean, deviation)
