import dataclasses
import gzip
import lzma
from pathlib import Path

import numpy
import pytest
from numpy.testing import assert_array_equal

from fedlps.data import CATALOG, cifar, load
from fedlps.data.cifar import CIFAR10, CIFAR100, Layout
from fedlps.errors import InputError
from tests.data.cifar_files import COMPRESS, values, write

each = pytest.mark.parametrize(("name", "layout"), [("cifar10", CIFAR10), ("cifar100", CIFAR100)])


def rejected(name: str, place: Path, partial: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        load(name, place, partial)
    message = str(caught.value)
    assert "\n" not in message
    return message


@each
@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("unpacked", [False, True])
def test_reads_what_was_written(tmp_path: Path, name: str, layout: Layout, ending: str, unpacked: bool) -> None:
    write(tmp_path / layout.folder if unpacked else tmp_path, layout, ending=ending)
    dataset = load(name, tmp_path, partial=True)
    wanted = numpy.concatenate([values(layout, 30, seed) for seed in range(len(layout.train))])
    images = wanted[:, -3072:].reshape(-1, 3, 32, 32)  # planes red, green, blue, each row by row
    assert_array_equal(dataset.train.images, images)
    assert_array_equal(dataset.train.labels, wanted[:, len(layout.labels) - 1])
    assert (len(dataset.test), dataset.classes, dataset.input_shape) == (20, layout.labels[-1], (3, 32, 32))
    assert dataset.extent.startswith(f"{len(wanted)} of 50000 training images")
    assert dataset.extent.endswith("20 of 10000 test images")


@each
def test_a_whole_data_set_needs_no_leave(
    tmp_path: Path, name: str, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(layout, train_records=30, test_records=20)
    entry = CATALOG[name]
    reader = dataclasses.replace(entry, read=lambda place, part, _: cifar.read(small, place, part))
    monkeypatch.setitem(CATALOG, name, reader)
    write(tmp_path, small)
    for partial in (False, True):
        assert load(name, tmp_path, partial).extent == ""
    write(tmp_path, small, test=19)
    assert "test" in rejected(name, tmp_path, partial=False)
    assert "holds 19 records" in rejected(name, tmp_path, partial=False)
    assert load(name, tmp_path, partial=True).extent.endswith("19 of 20 test images")
    write(tmp_path, small, test=21)
    assert "more than 20 records" in rejected(name, tmp_path)


def test_batches_stand_in_order_and_may_be_missing_only_with_leave(tmp_path: Path) -> None:
    write(tmp_path, CIFAR10)
    (tmp_path / "data_batch_3.bin").unlink()
    message = rejected("cifar10", tmp_path, partial=False)
    assert "data_batch_3.bin" in message
    assert "data_batch_2.bin" not in message
    assert "data.partial=true trains without them" in message
    dataset = load("cifar10", tmp_path, partial=True)
    wanted = numpy.concatenate([values(CIFAR10, 30, seed) for seed in (0, 1, 3, 4)])
    assert_array_equal(dataset.train.images, wanted[:, 1:].reshape(-1, 3, 32, 32))
    assert "4 of 5 files: data_batch_1.bin, data_batch_2.bin, data_batch_4.bin, data_batch_5.bin" in dataset.extent


def test_without_a_training_or_test_file_there_is_no_part(tmp_path: Path) -> None:
    write(tmp_path, CIFAR10, batches=0)
    assert "data_batch_1.bin" in rejected("cifar10", tmp_path)
    (tmp_path / "test_batch.bin").rename(tmp_path / "data_batch_1.bin")
    assert "test_batch.bin" in rejected("cifar10", tmp_path)


def test_subsets_are_parts(tmp_path: Path) -> None:
    write(tmp_path, CIFAR100)
    for name in ("train", "test"):
        (tmp_path / f"{name}.bin").rename(tmp_path / f"{name}_subset.bin")
    assert "train.bin" in rejected("cifar100", tmp_path, partial=False)
    assert load("cifar100", tmp_path, partial=True).extent.startswith("30 of 50000")


@each
@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("cut", [1, 3071, 3072, 3073 * 3 + 5])
def test_records_cut_short(tmp_path: Path, name: str, layout: Layout, ending: str, cut: int) -> None:
    write(tmp_path, layout)
    path = tmp_path / layout.test
    content = path.read_bytes()[:-cut]
    path.unlink()
    (tmp_path / f"{layout.test}{ending}").write_bytes(COMPRESS[ending](content))
    message = rejected(name, tmp_path)
    assert message.startswith(f"{path}{ending}: truncated: {len(content)} bytes are ")


@each
def test_empty_file(tmp_path: Path, name: str, layout: Layout) -> None:
    write(tmp_path, layout)
    (tmp_path / layout.test).write_bytes(b"")
    assert f"{layout.test}: truncated: 0 bytes" in rejected(name, tmp_path)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_damaged_streams(tmp_path: Path, compress) -> None:
    content = compress(values(CIFAR10, 30).tobytes())
    write(tmp_path, CIFAR10)
    path = tmp_path / "data_batch_1.bin"
    for cut in range(2, len(content), len(content) // 20):
        path.write_bytes(content[:cut])
        assert "data_batch_1.bin: truncated" in rejected("cifar10", tmp_path) or cut < 6
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    path.write_bytes(flipped)
    assert "data_batch_1.bin: " in rejected("cifar10", tmp_path)
    path.write_bytes(content + b"more")
    assert "4 trailing bytes behind" in rejected("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("name", "layout", "column", "message"),
    [
        ("cifar10", CIFAR10, 0, "record 7 of 30 has label 10, allowed 0 to 9"),
        ("cifar100", CIFAR100, 1, "record 7 of 30 has label 100, allowed 0 to 99"),
        ("cifar100", CIFAR100, 0, "record 7 of 30 has coarse label 20, allowed 0 to 19"),
    ],
)
def test_label_out_of_range(tmp_path: Path, name: str, layout: Layout, column: int, message: str) -> None:
    write(tmp_path, layout)
    records = values(layout, 30)
    records[7, column] = layout.labels[column]
    (tmp_path / layout.train[0]).write_bytes(records.tobytes())
    assert f"{layout.train[0]}: {message}" in rejected(name, tmp_path)


def test_a_class_has_one_coarse_class(tmp_path: Path) -> None:
    write(tmp_path, CIFAR100, train=110)
    records = values(CIFAR100, 110)
    records[103, 0] = 9
    (tmp_path / "train.bin").write_bytes(records.tobytes())
    assert "train.bin: label 3 stands with coarse labels 0 and 9" in rejected("cifar100", tmp_path)


@pytest.mark.parametrize(("name", "own", "other"), [("cifar10", CIFAR10, CIFAR100), ("cifar100", CIFAR100, CIFAR10)])
def test_the_other_data_set(tmp_path: Path, name: str, own: Layout, other: Layout) -> None:
    write(tmp_path, own)
    (tmp_path / own.train[0]).write_bytes(values(other, 30).tobytes())
    assert f"{own.train[0]}: holds 30 records of {other.title}" in rejected(name, tmp_path)
    write(tmp_path, own)
    write(tmp_path, other)
    message = rejected(name, tmp_path)
    assert message.startswith(f"{tmp_path / other.train[0]}: belongs to {other.title}")


def test_xz_cannot_expand_past_what_there_can_be(tmp_path: Path) -> None:
    write(tmp_path, CIFAR10, batches=1)
    (tmp_path / "test_batch.bin").write_bytes(lzma.compress(bytes(200_000_000), preset=0))
    assert "more than 10000 records" in rejected("cifar10", tmp_path)


def test_normalization(tmp_path: Path) -> None:
    write(tmp_path / "a", CIFAR10)
    write(tmp_path / "b", CIFAR100)
    ten, hundred = load("cifar10", tmp_path / "a", True), load("cifar100", tmp_path / "b", True)
    assert ten.mean.tolist() == ten.deviation.tolist() == [127.5] * 3
    numpy.testing.assert_allclose(hundred.mean / 255, [0.4914, 0.4822, 0.4465])
    numpy.testing.assert_allclose(hundred.deviation / 255, [0.2023, 0.1994, 0.2010])
