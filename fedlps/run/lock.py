"""One writer per run: a lock on a file, which the system lets go when its holder ends, however it ends."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from fedlps.errors import InputError
from fedlps.run.files import cannot_write


class Lock:
    """Holds `path` from construction to `release`. InputError if another process, or this one, holds it."""

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            written = os.pread(self._descriptor, 20, 0)
            os.close(self._descriptor)
            if not isinstance(error, BlockingIOError):
                raise cannot_write(path, error) from error
            holder = f"process {int(written)}" if written.isdigit() else "another process"
            raise InputError(f"{path.parent}: {holder} is writing this run; wait for it or stop it") from None
        with suppress(OSError):  # only words for the message above: a full disk is no reason to stop here
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)
