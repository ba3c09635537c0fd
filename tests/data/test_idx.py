import gzip
import struct
import zlib
from pathlib import Path

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fedlps.data import idx
from fedlps.errors import InputError
from tests.data.files import arrays, encode, write

VALUES = numpy.random.default_rng(0).integers(0, 256, (7, 4, 3)).astype(numpy.uint8)


def rejected(path: Path, dimensions: int | None = 3) -> str:
    """The one-line error that reading the file gives; it names the file."""
    with pytest.raises(InputError) as caught:
        idx.read(path, dimensions)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 4, 3), (300, 28, 28), (5,)])
def test_reads_what_was_written(tmp_path: Path, shape: tuple[int, ...], compressed: bool) -> None:
    values = numpy.random.default_rng(3).integers(0, 256, shape).astype(numpy.uint8)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(encode(values)) if compressed else encode(values))
    assert_array_equal(idx.read(path), values)
    assert_array_equal(idx.read(path, len(shape)), values)


def test_highly_compressible_values_are_no_truncation(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(encode(numpy.zeros((4000, 28, 28), numpy.uint8)), 9))
    assert idx.read(path).sum() == 0


@pytest.mark.parametrize("cut", range(len(encode(VALUES))))
def test_truncated_raw(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(encode(VALUES)[:cut])
    assert "truncated" in rejected(path)


def test_truncated_gzip_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = gzip.compress(encode(VALUES))
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        assert "truncated" in rejected(path)


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("bit", range(8))
def test_flipped_magic(tmp_path: Path, position: int, bit: int) -> None:
    content = bytearray(encode(VALUES))
    content[position] ^= 1 << bit
    path = tmp_path / "file"
    path.write_bytes(content)
    assert "wrong magic number" in rejected(path)
    path.write_bytes(gzip.compress(content))
    assert "wrong magic number" in rejected(path)


def test_labels_where_images_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(encode(VALUES[:, 0, 0]))
    assert "wrong magic number 2049, expected 2051 (images)" in rejected(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_trailing_bytes(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "file"
    content = encode(VALUES) + b"\0"
    path.write_bytes(gzip.compress(content) if compressed else content)
    assert "trailing" in rejected(path)


@pytest.mark.parametrize("tail", [b"\0", b"x", gzip.compress(b"more")])
def test_trailing_bytes_behind_the_gzip_stream(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(encode(VALUES)) + tail)
    assert f"{len(tail)} trailing bytes" in rejected(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bit_of_a_gzip_never_changes_a_value(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(gzip.compress(encode(VALUES), mtime=0))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "file"
    path.write_bytes(content)
    try:
        values = idx.read(path, 3)
    except InputError:
        rejected(path)
    else:
        assert_array_equal(values, VALUES)  # some bits mean nothing, such as those of gzip's time stamp


def test_wrong_gzip_checksum(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(encode(VALUES)))
    content[-5] ^= 1
    path = tmp_path / "file"
    path.write_bytes(content)
    assert "corrupt gzip" in rejected(path)


def test_header_cannot_ask_for_memory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = bytes([0, 0, 8, 3]) + struct.pack(">3I", *[2**32 - 1] * 3) + bytes(100)
    for written in (content, gzip.compress(content)):
        path.write_bytes(written)
        assert "truncated" in rejected(path)


def test_gzip_cannot_expand_past_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inflated = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, *arguments: int) -> None:
            self.inner = real(*arguments)

        def decompress(self, content: bytes, most: int) -> bytes:
            inflated.append(self.inner.decompress(content, most))
            return inflated[-1]

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(encode(VALUES) + bytes(10_000_000)))
    assert "trailing" in rejected(path)
    assert sum(map(len, inflated)) == len(encode(VALUES)) + 1


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_no_samples(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "file"
    path.write_bytes(encode(numpy.zeros(shape, numpy.uint8)))
    assert "holds no samples" in rejected(path)


def test_unreadable(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in rejected(tmp_path / "nothing")
    assert "cannot be read: Is a directory" in rejected(tmp_path)


@pytest.mark.parametrize("name", ["{}", "{}.gz"])
@pytest.mark.parametrize("dotted", [False, True])
def test_finds_every_usual_name(tmp_path: Path, name: str, dotted: bool) -> None:
    for stem in idx.STEMS:
        (tmp_path / name.format(stem.replace("-idx", ".idx") if dotted else stem)).touch()
    assert list(idx.find(tmp_path)) == list(idx.STEMS)
    assert len(set(idx.find(tmp_path).values())) == 4


@pytest.mark.parametrize("compressed", [False, True])
def test_read_directory(tmp_path: Path, compressed: bool) -> None:
    values = arrays()
    write(tmp_path, values, compressed)
    train, test = idx.read_directory(tmp_path)
    assert_array_equal(train.images[:, 0], values[idx.STEMS[0]])
    assert_array_equal(train.labels, values[idx.STEMS[1]])
    assert_array_equal(test.images[:, 0], values[idx.STEMS[2]])
    assert_array_equal(test.labels, values[idx.STEMS[3]])


@pytest.mark.parametrize(
    ("stem", "change", "message"),
    [
        (idx.STEMS[1], lambda values: values[:-1], "train-labels.*: holds 11 labels, but train-images.* 12 images"),
        (idx.STEMS[2], lambda values: values[:-1], "t10k-labels.*: holds 5 labels, but t10k-images.* 4 images"),
        (idx.STEMS[2], lambda values: values.transpose(0, 2, 1), r"t10k-images.*\[3, 4\], those of train.*\[4, 3\]"),
        (idx.STEMS[3], lambda values: values + 1, "t10k-labels.*: label 3 is above every label of train-labels"),
    ],
)
def test_files_that_contradict_each_other(tmp_path: Path, stem: str, change: object, message: str) -> None:
    values = arrays()
    values[stem] = change(values[stem])
    write(tmp_path, values)
    with pytest.raises(InputError, match=message):
        idx.read_directory(tmp_path)
