"""Reader of Tiny ImageNet's folders: a class per line of wnids.txt, its training images in a folder of its own.

train/<class>/images/*.JPEG, val/images/*.JPEG with val/val_annotations.txt (file, class, box; tab-separated), which is
the test set: the images in test/ have no labels.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy

from fedlps.data import decoded
from fedlps.data.dataset import Content, Progress, Samples
from fedlps.errors import InputError

FOLDER = "tiny-imagenet-200"  # what the published archive unpacks to
SHAPE = (3, 64, 64)
CLASSES, TRAIN, TEST = 200, 100_000, 10_000
ENDINGS = (".jpeg", ".jpg", ".png")
CLASS_LIST, ANNOTATIONS = "wnids.txt", "val/val_annotations.txt"


@dataclass(frozen=True)
class Listing:
    """Which images there are, in order (classes as in wnids.txt, files by name), and the class of each."""

    classes: int
    train: list[Path]
    train_labels: list[int]
    test: list[Path]
    test_labels: list[int]

    @property
    def whole(self) -> bool:
        """Whether that is everything that was published."""
        return (self.classes, len(self.train), len(self.test)) == (CLASSES, TRAIN, TEST)


def missing(directory: Path) -> list[str]:
    """What `read` needs and is not there."""
    place = _place(directory)
    files = [name for name in (CLASS_LIST, ANNOTATIONS) if not (place / name).is_file()]
    return files + [f"{name}/" for name in ("train", "val/images") if not (place / name).is_dir()]


def all_classes(directory: Path) -> bool:
    """Whether the list names as many classes as were published; a look at one file."""
    with suppress(InputError):
        return len(_lines(_place(directory) / CLASS_LIST)) == CLASSES
    return False


def read(directory: Path, partial: bool, progress: Progress | None) -> Content:
    """Training and test samples of a directory in which nothing is `missing`; decoded once, then from a cache.

    partial: accept fewer than all published classes and images; `extent` then says how many there are.
    InputError names the file or folder that is damaged, missing, of another size or at odds with the lists.
    """
    place = _place(directory)
    listing = _listing(place)
    extent = ""
    if not listing.whole:
        extent = (
            f"{listing.classes} of {CLASSES} classes, {len(listing.train)} of {TRAIN} training images, "
            f"{len(listing.test)} of {TEST} test images"
        )
        if not partial:
            raise InputError(f"{place}: is incomplete: {extent}; data.partial=true trains on these")
    images = decoded.images(directory.name, [*listing.train, *listing.test], SHAPE, progress)
    cut = len(listing.train)
    train = Samples(images[:cut], numpy.array(listing.train_labels, numpy.int64))
    test = Samples(images[cut:], numpy.array(listing.test_labels, numpy.int64))
    return Content(train, test, listing.classes, extent)


def _place(directory: Path) -> Path:
    return directory / FOLDER if (directory / FOLDER).is_dir() else directory


def _listing(place: Path) -> Listing:
    names = _lines(place / CLASS_LIST)
    if len(set(names)) < len(names) or not names:
        raise InputError(f"{place / CLASS_LIST}: got {len(names)} classes, expected different ones, at least 1")
    train: list[Path] = []
    train_labels: list[int] = []
    for label, name in enumerate(names):
        found = _images(place / "train" / name / "images")
        train += found
        train_labels += [label] * len(found)
    unknown = sorted({folder.name for folder in (place / "train").iterdir() if folder.is_dir()} - set(names))
    if unknown:
        raise InputError(f"{place / 'train' / unknown[0]}: is a class that {CLASS_LIST} does not list")
    test, test_labels = _validation(place, {name: label for label, name in enumerate(names)})
    return Listing(len(names), train, train_labels, test, test_labels)


def _validation(place: Path, labels: dict[str, int]) -> tuple[list[Path], list[int]]:
    """The images of val/ by name, and their classes."""
    path = place / ANNOTATIONS
    classes: dict[str, int] = {}
    for number, line in enumerate(_lines(path), start=1):
        name, _, rest = line.partition("\t")
        label = rest.partition("\t")[0]
        if label not in labels:
            raise InputError(f"{path}: line {number}: class {label!r} is none of {CLASS_LIST}")
        if name in classes:
            raise InputError(f"{path}: line {number}: {name} is listed twice")
        classes[name] = labels[label]
    found = _images(place / "val" / "images")
    there = {image.name for image in found}
    if absent := sorted(set(classes) - there):
        raise InputError(f"{place / 'val' / 'images' / absent[0]}: is listed in {ANNOTATIONS}, but is not there")
    if unlisted := sorted(there - set(classes)):
        raise InputError(f"{place / 'val' / 'images' / unlisted[0]}: is not listed in {ANNOTATIONS}")
    return found, [classes[image.name] for image in found]


def _images(folder: Path) -> list[Path]:
    """The images of a folder by name."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory")
    found = sorted((path for path in folder.iterdir() if path.suffix.lower() in ENDINGS), key=lambda path: path.name)
    if not found:
        raise InputError(f"{folder}: holds no images ({', '.join(ENDINGS)})")
    return found


def _lines(path: Path) -> list[str]:
    """The lines of a text that are not empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
