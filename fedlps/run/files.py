"""Writing a file so that it is there whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from fedlps.errors import InputError

ASIDE = ".tmp"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write aside, fsync, rename, fsync the folder. InputError if it cannot be written; the old file stands."""
    aside = path.with_name(path.name + ASIDE)
    try:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
        _sync(aside)
        aside.replace(path)
        _sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> InputError:
    """One line for a file or folder that the system does not let us write."""
    return InputError(f"{path}: cannot be written: {error.strerror or error}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
