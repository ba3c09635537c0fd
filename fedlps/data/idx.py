"""Reader of idx files, the format of MNIST and its relatives: a header, then one byte per value; raw, gzip or xz.

Format, big-endian: two zero bytes, type (8: unsigned byte), number of dimensions, each dimension as uint32, then the
values, last dimension fastest (the description on the MNIST page).
"""

import math
import struct
from pathlib import Path

import numpy
from numpy.typing import NDArray

from fedlps.data import compressed
from fedlps.data.dataset import Samples
from fedlps.errors import InputError

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def find(directory: Path) -> dict[str, Path]:
    """The data set's files in a directory by their usual name without ending; those that are not there are left out.

    A file may be raw or end in .gz or .xz, and have a dot before `idx`, as after unpacking with some tools.
    """
    found = {}
    for stem in STEMS:
        for name in (stem, stem.replace("-idx", ".idx")):
            if stem not in found and (path := compressed.find(directory, name)):
                found[stem] = path
    return found


def read_directory(directory: Path) -> tuple[Samples, Samples]:
    """Training and test samples of a directory in which `find` finds all four files.

    InputError names the file that is damaged, or the two that contradict each other.
    """
    files = find(directory)
    train = _pair(files[STEMS[0]], files[STEMS[1]])
    test = _pair(files[STEMS[2]], files[STEMS[3]])
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(
            f"{files[STEMS[2]]}: images are {list(test.images.shape[2:])}, "
            f"those of {files[STEMS[0]].name} {list(train.images.shape[2:])}; they must agree"
        )
    if test.labels.max() > train.labels.max():
        raise InputError(
            f"{files[STEMS[3]]}: label {test.labels.max()} is above every label of "
            f"{files[STEMS[1]].name} (0 to {train.labels.max()})"
        )
    return train, test


def _pair(images_path: Path, labels_path: Path) -> Samples:
    images, labels = read(images_path, 3), read(labels_path, 1)
    if len(images) != len(labels):
        raise InputError(
            f"{labels_path}: holds {len(labels)} labels, but {images_path.name} holds {len(images)} images"
        )
    return Samples(images[:, None], labels.astype(numpy.int64))


def read(path: Path, dimensions: int | None = None) -> NDArray[numpy.uint8]:
    """The values of one file, uint8 in the shape that its header states, read-only.

    dimensions: how many are wanted (images 3, labels 1); None takes either.
    InputError names the file and what is wrong: magic, header, truncated, trailing bytes, corrupt stream, no samples.
    Memory is bounded by the file's own size (times the compression's highest ratio), whatever the header states, and by
    the header, whatever the stream would expand to.
    """
    source = compressed.source(path)
    shape = _header(path, source, dimensions)
    size = math.prod(shape)
    stated = f"the header states {' x '.join(map(str, shape))} = {size} bytes of values"
    if size == 0:
        raise InputError(f"{path}: holds no samples: {stated}")
    if size > source.most:
        raise InputError(f"{path}: truncated: {stated}, the file has {source.size} bytes")
    values = source.take(size)
    if len(values) < size:
        raise InputError(f"{path}: truncated: {stated}, the file holds {len(values)}")
    source.finish(stated)
    return numpy.frombuffer(values, numpy.uint8).reshape(shape)


def _header(path: Path, source: compressed.Source, dimensions: int | None) -> tuple[int, ...]:
    magic = bytes(source.take(4))
    if len(magic) < 4:
        raise InputError(f"{path}: truncated: {len(magic)} bytes, an idx header has at least 8")
    allowed = (1, 3) if dimensions is None else (dimensions,)
    if magic[:3] != b"\0\0\x08" or magic[3] not in allowed:
        wanted = " or ".join(f"{0x800 + count} ({'labels' if count == 1 else 'images'})" for count in allowed)
        raise InputError(f"{path}: wrong magic number {int.from_bytes(magic, 'big')}, expected {wanted}")
    sizes = bytes(source.take(4 * magic[3]))
    if len(sizes) < 4 * magic[3]:
        raise InputError(f"{path}: truncated inside the header: {4 + len(sizes)} of {4 + 4 * magic[3]} bytes")
    return struct.unpack(f">{magic[3]}I", sizes)
