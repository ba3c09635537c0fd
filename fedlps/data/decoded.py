"""Image files decoded once: their pixels wait in the user's cache directory, checksummed, for the next run."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy
import platformdirs
from numpy.typing import NDArray

from fedlps.data.dataset import Progress
from fedlps.errors import InputError

Pixels = NDArray[numpy.uint8]
VERSION = 1  # of what is stored
STEP = 100  # images between two reports of progress


def images(name: str, files: Sequence[Path], shape: tuple[int, int, int], progress: Progress | None) -> Pixels:
    """The files' pixels in order, uint8 [N, 3, height, width], read-only; grey images have three equal channels.

    name: what progress is reported under. Decoded if the cache has none of exactly these files (paths, sizes, times),
    or a damaged one. The pixels stay in the file, so that several runs share one copy in memory.
    InputError: Pillow is not installed; a file that is no image, cut short or of another size; the cache cannot be
    written.
    """
    path = Path(platformdirs.user_cache_dir("fedlps")) / "decoded" / f"{_key(files, shape)}.npy"
    cached = _read(path, (len(files), *shape))
    if cached is not None:
        return cached
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _decode(name, files, shape, aside, progress)
        digest = _digest(numpy.load(aside, mmap_mode="r", allow_pickle=False))
        _sum_file(path).write_text(digest)
        aside.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: decoded images cannot be written: {error.strerror or error}; "
            f"{len(files) * int(numpy.prod(shape))} bytes are needed"
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink()
    made = _read(path, (len(files), *shape))
    if made is None:
        raise InputError(f"{path}: is not what was written there; the disk may be damaged")
    return made


def _decode(
    name: str, files: Sequence[Path], shape: tuple[int, int, int], aside: Path, progress: Progress | None
) -> None:
    try:
        from PIL import Image
    except ImportError:
        reason = "decoding it needs Pillow, which is not installed: pip install 'fedlps[images]'"
        raise InputError(f"{files[0]}: {reason}") from None
    pixels = numpy.lib.format.open_memmap(aside, mode="w+", dtype=numpy.uint8, shape=(len(files), *shape))
    for number, file in enumerate(files):
        try:
            with Image.open(file) as image:
                values = numpy.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"{file}: is no readable image: {error}") from error
        if values.shape != (*shape[1:], 3):
            width, height = values.shape[1], values.shape[0]
            raise InputError(f"{file}: is {width} x {height}, expected {shape[2]} x {shape[1]} pixels")
        pixels[number] = values.transpose(2, 0, 1)
        if progress is not None and ((number + 1) % STEP == 0 or number + 1 == len(files)):
            progress(name, number + 1, len(files))
    pixels.flush()


def _read(path: Path, shape: tuple[int, ...]) -> Pixels | None:
    """What the cache has, if it is what was written."""
    try:
        values = numpy.load(path, mmap_mode="r", allow_pickle=False)
        stated = _sum_file(path).read_text()
    except (OSError, ValueError, EOFError):
        return None
    if values.dtype != numpy.uint8 or values.shape != shape or _digest(values) != stated:
        return None
    return numpy.asarray(values)


def _digest(values: Pixels) -> str:
    return hashlib.blake2b(values.data, digest_size=16).hexdigest()


def _sum_file(path: Path) -> Path:
    return path.with_suffix(".blake2b")


def _key(files: Sequence[Path], shape: tuple[int, int, int]) -> str:
    """BLAKE2b (hex) of what the files are known by."""
    digest = hashlib.blake2b(f"{VERSION} {shape}".encode(), digest_size=16)
    for file in files:
        facts = file.stat()
        digest.update(f"{file.absolute()}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    return digest.hexdigest()
