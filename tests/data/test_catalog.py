import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fedlps.data import CATALOG, check, directory, load
from fedlps.data.cifar import CIFAR10
from fedlps.data.idx import STEMS
from fedlps.errors import InputError
from tests.data import cifar_files
from tests.data.files import arrays, encode, write


def test_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLPS_DATA", str(tmp_path))
    assert directory("mnist") == tmp_path / "mnist"
    assert directory("mnist", tmp_path / "own") == tmp_path / "own"
    monkeypatch.delenv("FEDLPS_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert directory("kmnist").parts[-3:] == ("fedlps", "data", "kmnist")
    monkeypatch.setenv("FEDLPS_DATA", "")
    assert directory("kmnist").parts[-3:] == ("fedlps", "data", "kmnist")


def test_load_from_each_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = arrays()
    write(tmp_path / "kmnist", values)
    monkeypatch.setenv("FEDLPS_DATA", str(tmp_path))
    dataset = load("kmnist")
    assert (dataset.name, dataset.classes, dataset.input_shape) == ("kmnist", 3, (1, 4, 3))
    assert_array_equal(dataset.test.labels, values[STEMS[3]])
    assert_allclose(dataset.mean, values[STEMS[0]].astype(numpy.float64).mean())
    assert_allclose(dataset.deviation, values[STEMS[0]].astype(numpy.float64).std())
    monkeypatch.delenv("FEDLPS_DATA")
    assert load("fashion_mnist", tmp_path / "kmnist").name == "fashion_mnist"


def test_mnist_is_normalized_by_the_usual_constants(tmp_path: Path) -> None:
    write(tmp_path, arrays())
    dataset = load("mnist", str(tmp_path))
    assert_allclose(dataset.mean, [0.1307 * 255], rtol=1e-15)
    assert_allclose(dataset.deviation, [0.3081 * 255], rtol=1e-15)


def test_missing_files_are_named_with_the_ways_to_provide_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLPS_DATA", str(tmp_path))
    with pytest.raises(InputError) as caught:
        load("mnist")
    message = str(caught.value)
    assert "\n" not in message
    for said in (*STEMS, str(tmp_path / "mnist"), "no such directory"):
        assert said in message
    for way in ("fedlps data get mnist", "data.root=", "FEDLPS_DATA"):
        assert way in message
    values = arrays()
    del values[STEMS[3]]
    write(tmp_path / "mnist", values)
    with pytest.raises(InputError) as caught:
        load("mnist")
    message = str(caught.value)
    assert STEMS[3] in message
    assert not any(stem in message for stem in STEMS[:3])
    assert "no such directory" not in message


def test_damage_is_named(tmp_path: Path) -> None:
    write(tmp_path, arrays(), compressed=False)
    path = tmp_path / STEMS[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{STEMS[0]}: truncated"):
        load("mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mnits", {}, r"unknown data set 'mnits' \(did you mean mnist\?\); there are digits, mnist"),
        ("digits", {"root": "/somewhere"}, "data.root: got /somewhere"),
        ("mnist", {"partial": True}, "data.partial: got true"),
    ],
)
def test_bad_arguments(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(name, **arguments)


def test_published_files_are_well_formed() -> None:
    for entry in CATALOG.values():
        assert bool(entry.files) == bool(entry.mirrors) == (not entry.source)
        for file in entry.files:
            assert file.size > 0
            assert len(bytes.fromhex(file.sha256)) == 32
    checksums = [file.sha256 for entry in CATALOG.values() for file in entry.files]
    assert len(set(checksums)) == len(checksums)


def test_check_directory(tmp_path: Path) -> None:
    write(tmp_path, arrays())
    lines = check(tmp_path)
    assert len(lines) == 5
    for stem, line in zip(STEMS, lines, strict=False):
        path = tmp_path / f"{stem}.gz"
        assert line.startswith(f"{path.name}: {path.stat().st_size} bytes, checksum of no data set known here")
    assert lines[0].endswith("12 images of 4 x 3")
    assert lines[1].endswith("12 labels, 0 to 2")
    assert lines[4] == "12 training and 5 test images of 4 x 3, 3 classes, 4 to 4 training images each"


def test_check_cifar(tmp_path: Path) -> None:
    cifar_files.write(tmp_path, CIFAR10, ending=".gz", batches=2)
    lines = check(tmp_path)
    size = (tmp_path / "test_batch.bin.gz").stat().st_size
    assert lines[2] == f"test_batch.bin.gz: {size} bytes; 20 records of CIFAR-10"
    assert lines[3].startswith("60 training and 20 test images of 32 x 32, 10 classes, 6 to 6 training images each")
    assert "; incomplete: 60 of 50000 training images" in lines[3]
    (tmp_path / "test_batch.bin.gz").unlink()
    with pytest.raises(InputError, match=r"incomplete: test_batch\.bin"):
        check(tmp_path)


def test_check_one_file(tmp_path: Path) -> None:
    path = tmp_path / "anything"
    path.write_bytes(encode(numpy.zeros((2, 5, 6), numpy.uint8)))
    (line,) = check(path)
    assert line.endswith("2 images of 5 x 6")


def test_check_rejects(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or directory"):
        check(tmp_path / "nothing")
    with pytest.raises(InputError, match="holds no data set; looked for train-images"):
        check(tmp_path)
    values = arrays()
    del values[STEMS[2]]
    write(tmp_path, values)
    with pytest.raises(InputError, match="incomplete: t10k-images-idx3-ubyte"):
        check(tmp_path)
    write(tmp_path, {STEMS[2]: arrays()[STEMS[2]][:-1]})
    with pytest.raises(InputError, match=r"t10k-labels.*: holds 5 labels"):
        check(tmp_path)


def test_importing_needs_neither_torch_nor_scikit_learn() -> None:
    program = "import sys, fedlps.data; assert not {'torch', 'sklearn'} & set(sys.modules), 'imported'"
    subprocess.run([sys.executable, "-c", program], check=True)
