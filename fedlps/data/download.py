"""Downloading a data set's files: checked, resumed where they broke off, and never half there under their own name."""

import fcntl
import hashlib
import http.client
import io
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedlps.data.catalog import File, directory, entry
from fedlps.data.dataset import Progress
from fedlps.errors import InputError

TIMEOUT_S = 30.0  # without a byte
CONNECTIONS = 5  # to one mirror for one file: each further one goes on where the last broke off
CHUNK_BYTES = 1 << 16


class _MirrorError(Exception):
    """Why one connection gave no whole, good file. again: worth another one, if this one changed what is there."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


def get(
    name: str,
    mirrors: Sequence[str] | None = None,
    destination: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download a data set's files into a directory and return it; files that are there and good stay as they are.

    mirrors: http or https addresses of directories, tried in order, instead of the catalog's.
    destination: the directory; default: where `load` looks without data.root.
    progress: told of each file's bytes.
    InputError: unknown or embedded data set, bad address, a directory that cannot be written, no mirror that gave the
    file (with each one's reason). What arrived of a file waits beside it as NAME.part and is gone on with next time.
    """
    chosen = entry(name)
    if not chosen.files:
        raise InputError(f"data set {name}: {chosen.source}; there is nothing to download")
    addresses = [_address(mirror) for mirror in (chosen.mirrors if mirrors is None else mirrors)]
    if not addresses:
        raise InputError("mirror: got none, expected at least one address")
    place = directory(name, destination)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{place}: cannot be made: {error.strerror}") from error
    for file in chosen.files:
        if not _is_good(place / file.name, file):
            _fetch(file, addresses, place, progress)
        elif progress is not None:
            progress(file.name, file.size, file.size)
    return place


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes. OSError if it cannot be read."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _address(mirror: str) -> str:
    if not mirror.startswith(("http://", "https://")):
        raise InputError(f"mirror: got {mirror!r}, expected an address that starts with http:// or https://")
    return mirror if mirror.endswith("/") else f"{mirror}/"


def _is_good(path: Path, file: File) -> bool:
    return path.is_file() and path.stat().st_size == file.size and sha256_of(path) == file.sha256


def _fetch(file: File, addresses: Sequence[str], place: Path, progress: Progress | None) -> None:
    """One file from the first mirror that gives it whole and right; it gets its name when it is safely on the disk."""
    path = place / file.name
    part = place / f"{file.name}.part"
    try:
        with part.open("ab+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                _first_good(file, addresses, stream, progress)
            except InputError:
                if stream.seek(0, os.SEEK_END) == 0:
                    part.unlink()
                raise
            stream.flush()
            os.fsync(stream.fileno())
            part.replace(path)
        folder = os.open(place, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BlockingIOError as error:
        raise InputError(f"{part}: another process is downloading this file") from error
    except OSError as error:
        raise InputError(f"{part}: cannot be written: {error.strerror}; {file.size} bytes are needed") from error


def _first_good(file: File, addresses: Sequence[str], stream: io.BufferedRandom, progress: Progress | None) -> None:
    reasons = []
    for address in addresses:
        for _ in range(CONNECTIONS):
            before = stream.seek(0, os.SEEK_END)
            try:
                _connect(file, address, stream, progress)
                return
            except _MirrorError as failure:
                reason = failure
            if not reason.again or stream.seek(0, os.SEEK_END) == before:
                break
        reasons.append(f"{address}: {reason}")
    raise InputError(f"{file.name}: no mirror gave it: {'; '.join(reasons)}")


def _connect(file: File, address: str, stream: io.BufferedRandom, progress: Progress | None) -> None:
    """Complete `stream` by one request and check it; whatever cannot become the right file is cut off again."""
    done = stream.seek(0, os.SEEK_END)
    resumed = done > 0
    if done < file.size:
        for chunk in _body(file, address, done):
            if chunk is None:  # the server begins anew
                done, resumed = stream.truncate(0), False
                continue
            stream.write(chunk)
            done += len(chunk)
            if done > file.size:
                stream.truncate(0)
                raise _MirrorError(f"wrong size: more than {file.size} bytes")
            if progress is not None:
                progress(file.name, done, file.size)
        if done < file.size:
            raise _MirrorError(f"broke off at {done} of {file.size} bytes", again=True)
    stream.seek(0)
    digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != file.sha256:
        stream.truncate(0)
        # the first bytes may be another mirror's: this one deserves to give all of them
        raise _MirrorError(f"wrong checksum: SHA-256 {digest}, expected {file.sha256}", again=resumed)


def _body(file: File, address: str, start: int) -> Iterator[bytes | None]:
    """The file's bytes from `start` on; None first if the server sends it from the beginning all the same."""
    opener = _web_opener()
    opener.addheaders = [("User-Agent", "fedlps"), ("Accept-Encoding", "identity")]
    if start:
        opener.addheaders.append(("Range", f"bytes={start}-"))
    try:
        with opener.open(address + file.name, timeout=TIMEOUT_S) as response:
            length = response.headers.get("Content-Length")
            if response.status == http.HTTPStatus.PARTIAL_CONTENT:
                _check_range(response.headers.get("Content-Range", ""), start, file.size)
            elif length is not None and length != str(file.size):
                raise _MirrorError(f"wrong size: {length} bytes, expected {file.size}")
            elif start:
                yield None
            while chunk := response.read(CHUNK_BYTES):
                yield chunk
    except urllib.error.HTTPError as error:
        raise _MirrorError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _MirrorError(f"not reached: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _MirrorError(f"broke off: {error or type(error).__name__}", again=True) from error


def _web_opener() -> urllib.request.OpenerDirector:
    """Opens http and https only, so that no redirection leads to a local file or another protocol."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _check_range(given: str, start: int, size: int) -> None:
    if given not in (f"bytes {start}-{size - 1}/{size}", f"bytes {start}-{size - 1}/*"):
        raise _MirrorError(f"wrong range: got {given!r}, expected bytes {start}-{size - 1} of {size}")
