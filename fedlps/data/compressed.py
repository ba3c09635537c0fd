"""A file's bytes as far as they are asked for: raw, gzip or xz, by what the file begins with."""

import lzma
import zlib
from pathlib import Path
from typing import Protocol

from fedlps.errors import InputError

ENDINGS = ("", ".gz", ".xz")  # of a file's name
GZIP_MAGIC, XZ_MAGIC = b"\x1f\x8b", b"\xfd7zXZ\x00"
DEFLATE_RATIO = 1032  # 258 bytes from 2 bits
XZ_RATIO = 1 << 13  # 273 bytes from a dozen decisions of 1/50 bit each
XZ_MEMORY = 256 << 20  # bytes that a stream may want for its dictionary; `xz -9` makes ones that want 65 MiB


class Source(Protocol):
    """Bytes that come in order. most: how many the file can hold at all, whatever it states itself."""

    most: int
    size: int

    def take(self, count: int) -> bytes | memoryview:
        """The next bytes, as many as asked for or what is left. InputError names a damaged file."""

    def finish(self, stated: str) -> None:
        """InputError, with what was `stated`, unless everything has been taken and every checksum holds."""


def source(path: Path) -> Source:
    """The bytes of a file. InputError if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if content.startswith(GZIP_MAGIC):
        return _Gzip(path, content)
    return _Xz(path, content) if content.startswith(XZ_MAGIC) else _Raw(path, content)


def find(directory: Path, name: str) -> Path | None:
    """The file of this name in a directory, raw before compressed; None if there is none."""
    return next((path for ending in ENDINGS if (path := directory / f"{name}{ending}").is_file()), None)


class _Raw:
    """Bytes as they are."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.rest = path, memoryview(content)
        self.most = self.size = len(content)

    def take(self, count: int) -> memoryview:
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def finish(self, stated: str) -> None:
        if self.rest:
            raise InputError(f"{self.path}: {len(self.rest)} trailing bytes: {stated}")


class _Gzip:
    """Bytes inflated as far as asked for; every fault of the stream is an InputError."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.rest = path, content
        self.size, self.most = len(content), DEFLATE_RATIO * len(content)
        self.inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def take(self, count: int) -> bytes:
        if self.inflater.eof:
            return b""
        try:
            taken = self.inflater.decompress(self.rest, count)
        except zlib.error as error:
            raise InputError(f"{self.path}: corrupt gzip: {error}") from error
        self.rest = self.inflater.unconsumed_tail
        return taken

    def finish(self, stated: str) -> None:
        if self.take(1):  # asking for one byte more also reads the checksum
            raise InputError(f"{self.path}: trailing bytes in the gzip stream: {stated}")
        _check_end(self.path, "gzip", self.inflater.eof, self.inflater.unused_data)


class _Xz:
    """The same for xz."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.rest = path, content
        self.size, self.most = len(content), XZ_RATIO * len(content)
        self.inflater = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    def take(self, count: int) -> bytes:
        if self.inflater.eof:
            return b""
        given, self.rest = self.rest, b""  # the decompressor keeps what it does not use at once
        try:
            return self.inflater.decompress(given, count)
        except lzma.LZMAError as error:
            raise InputError(f"{self.path}: corrupt xz: {error}") from error

    def finish(self, stated: str) -> None:
        if self.take(1):
            raise InputError(f"{self.path}: trailing bytes in the xz stream: {stated}")
        _check_end(self.path, "xz", self.inflater.eof, self.inflater.unused_data)


def _check_end(path: Path, kind: str, whole: bool, behind: bytes) -> None:
    if not whole:
        raise InputError(f"{path}: truncated: the {kind} stream ends before its checksum")
    if behind:
        raise InputError(f"{path}: {len(behind)} trailing bytes behind the {kind} stream")
