"""Which data sets there are, where their files are looked for, and loading one by name."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy
import platformdirs

from fedlps.data import cifar, digits, idx, tiny_imagenet
from fedlps.data.dataset import Content, Dataset, Progress, Samples, statistics
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

    read: directory, whether a part is enough, whom to tell of slow work -> what is there.
    missing: directory, whether a part is enough -> names of the files that `read` needs and that are not there.
    whole: directory in which nothing is missing -> whether that seems to be all, without reading everything.
    files, mirrors: what `get` downloads; mirrors are addresses that end in a slash.
    source: where else it comes from. embedded: it needs no files. parts: it may be incomplete (`data.partial`).
    normalization: mean and deviation per channel of value / 255; None: the training set's own.
    """

    read: Callable[[Path, bool, Progress | None], Content]
    missing: Callable[[Path, bool], list[str]]
    files: tuple[File, ...] = ()
    mirrors: tuple[str, ...] = ()
    source: str = ""
    embedded: bool = False
    parts: bool = False
    whole: Callable[[Path], bool] = lambda _: True
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def advice(self, name: str) -> str:
        """How to come by the files."""
        return f"run `fedlps data get {name}`" if self.files else self.source


def _whole(read: Callable[[Path], tuple[Samples, Samples]]) -> Callable[[Path, bool, Progress | None], Content]:
    """A reader of a data set without parts; its classes are those of the training samples."""

    def content(directory: Path, partial: bool, progress: Progress | None) -> Content:
        train, test = read(directory)
        return Content(train, test, int(train.labels.max()) + 1)

    return content


def _idx_missing(directory: Path, partial: bool) -> list[str]:
    found = idx.find(directory)
    return [f"{stem}[.gz]" for stem in idx.STEMS if stem not in found]


def _idx_files(*published: tuple[int, str]) -> tuple[File, ...]:
    return tuple(File(f"{stem}.gz", size, sha256) for stem, (size, sha256) in zip(idx.STEMS, published, strict=True))


CATALOG = {
    "digits": Entry(read=_whole(digits.read), missing=lambda *_: [], source="comes with scikit-learn", embedded=True),
    "mnist": Entry(
        read=_whole(idx.read_directory),
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
        read=_whole(idx.read_directory),
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
        read=_whole(idx.read_directory),
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
    "cifar10": Entry(
        read=functools.partial(cifar.read, cifar.CIFAR10),
        missing=functools.partial(cifar.missing, cifar.CIFAR10),
        source="unpack cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html",
        parts=True,
        normalization=((0.5,) * 3, (0.5,) * 3),
    ),
    "cifar100": Entry(
        read=functools.partial(cifar.read, cifar.CIFAR100),
        missing=functools.partial(cifar.missing, cifar.CIFAR100),
        source="unpack cifar-100-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html",
        parts=True,
        normalization=((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ),
    "tiny_imagenet": Entry(
        read=tiny_imagenet.read,
        missing=lambda directory, _: tiny_imagenet.missing(directory),
        whole=tiny_imagenet.all_classes,
        source="unpack tiny-imagenet-200.zip from http://cs231n.stanford.edu",
        parts=True,
        normalization=((0.5,) * 3, (0.5,) * 3),
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


def load(name: str, root: str | Path | None = None, partial: bool = False, progress: Progress | None = None) -> Dataset:
    """Read a data set into memory.

    root: its own directory, instead of the places that `directory` names.
    partial: accept one of which published parts are missing; `Dataset.extent` then says what is there.
    progress: told of what takes long (decoding images for the first time).
    InputError: unknown name, missing directory or files, damaged files.
    """
    chosen = entry(name)
    if partial and not chosen.parts:
        raise InputError(f"data.partial: got true, but {name} is not published in parts; allowed: false")
    if root is not None and chosen.embedded:
        raise InputError(f"data.root: got {root}, but {name} {chosen.source} and reads no files; leave it out")
    place = directory(name, root)
    if missing := chosen.missing(place, partial):
        fewer = chosen.parts and not partial and not chosen.missing(place, True)
        raise InputError(
            f"data set {name}: {', '.join(missing)} not found in {place}"
            f"{'' if place.is_dir() else ' (no such directory)'}; "
            f"{'data.partial=true trains without them; or ' if fewer else ''}{chosen.advice(name)}, or give "
            f"data.root=DIRECTORY_OF_THE_FILES, or set FEDLPS_DATA to a directory that holds them in {name}/"
        )
    train, test, classes, extent = chosen.read(place, partial, progress)
    if chosen.normalization is None:
        mean, deviation = statistics(train.images)
    else:
        mean, deviation = (255.0 * numpy.array(values) for values in chosen.normalization)
    return Dataset(name, train, test, classes, mean, deviation, extent)
