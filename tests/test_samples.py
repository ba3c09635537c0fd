"""Packs: the same run from one small file, and no other run from it."""

from pathlib import Path

import numpy
import pytest
from safetensors import safe_open
from safetensors.numpy import save

import fedlps
from fedlps.cli import main
from fedlps.data import cifar, load, pack
from fedlps.errors import InputError
from fedlps.run.store import RunStore
from fedlps.samples import write_pack
from tests.data import cifar_files
from tests.data.files import arrays, write
from tests.running import TINY, contents

SMALL = ("clients=3", "split.shard_size=5", "split.shards_per_client=2", "split.test_per_class=1", "fraction=0.5")
CIFAR = (*SMALL, "data.partial=true")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small MNIST and a small CIFAR-10."""
    write(tmp_path / "mnist", arrays(train=90, test=12, height=28, width=28))
    cifar_files.write(tmp_path / "cifar10", cifar.CIFAR10, train=40)
    monkeypatch.setenv("FEDLPS_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_from_a_pack_is_the_same_run(tmp_path: Path) -> None:
    keys = {**TINY, "rounds": 2, "seed": 3}
    path = tmp_path / "pack"
    write_pack("digits", keys, path)
    fedlps.run("digits", out=tmp_path / "files", overrides=keys)
    fedlps.run("digits", out=tmp_path / "packed", overrides={**keys, "data.root": str(path)})
    assert contents(tmp_path / "packed") == contents(tmp_path / "files")
    fedlps.run(out=tmp_path / "packed", resume=True)  # and it is found again


def test_a_pack_holds_what_the_split_uses_and_nothing_else(place: Path) -> None:
    line = write_pack("cifar10", CIFAR, place / "small")
    whole, packed = load("cifar10", partial=True), pack.decode(place / "small")
    assert (packed.name, packed.classes, packed.extent) == (whole.name, whole.classes, whole.extent)
    assert packed.mean.tolist() == whole.mean.tolist()
    for part, count in (("train", 30), ("test", None)):
        has, of = getattr(packed, part), getattr(whole, part)
        numpy.testing.assert_array_equal(has.labels, of.labels)
        kept = has.images.any(axis=(1, 2, 3))
        numpy.testing.assert_array_equal(has.images[kept], of.images[kept])
        assert kept.sum() == count or count is None
    assert 0 < packed.test.images.any(axis=(1, 2, 3)).sum() < 20
    assert line.startswith(f"small: {(place / 'small').stat().st_size} bytes, pack of preset cifar10 (cifar10), seed 0")
    assert "3 clients: 30 training and " in line


@pytest.mark.parametrize(
    ("preset", "keys", "message"),
    [
        ("mnist", SMALL, "with data.name=cifar10, but the run has data.name=mnist"),
        ("cifar10", (*CIFAR, "seed=1"), "with seed=0, but the run has seed=1"),
        ("cifar10", (*CIFAR[1:], "clients=2"), "with clients=3, but the run has clients=2"),
        ("cifar10", (*CIFAR, "split.kind=iid"), "split."),
        ("cifar10", SMALL, "with data.partial=True, but the run has data.partial=False"),
    ],
)
def test_a_pack_of_another_run_is_refused(
    place: Path, preset: str, keys: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pack("cifar10", CIFAR, place / "small")
    if "split.kind=iid" in keys:
        keys = tuple(key for key in keys if "shard" not in key)
    assert main(["run", preset, *keys, "data.root=small", "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fedlps: data.root: small is a pack of preset cifar10 ")
    assert message in error
    assert error.count("\n") == 1
    assert not (place / "run").exists()


def test_what_decides_nothing_about_the_samples_is_free(place: Path) -> None:
    write_pack("mnist", SMALL, place / "small")
    overrides = [*SMALL, "data.root=small", "rounds=1", "epochs=1", "lr=0.3", "model.name=mlp"]
    fedlps.run("mnist", method="fedavg", out="run", overrides=overrides)
    with RunStore.read(place / "run") as store:
        assert store.rounds == 1


def test_a_damaged_pack_is_refused(place: Path) -> None:
    write_pack("mnist", SMALL, place / "small")
    content = (place / "small").read_bytes()
    for position in range(0, len(content), max(1, len(content) // 60)):
        damaged = bytearray(content)
        damaged[position] ^= 4
        (place / "small").write_bytes(damaged)
        with pytest.raises(InputError, match=r"^small: ") as caught:
            pack.decode(Path("small"))
        assert "\n" not in str(caught.value)
    for wrong in (b"", content[:-1], content[:100], b"text", content + b"x"):
        (place / "small").write_bytes(wrong)
        with pytest.raises(InputError, match=r"^small: "):
            pack.decode(Path("small"))


@pytest.mark.parametrize("name", ["train_labels", "test_kept", "mean"])
def test_a_changed_value_is_noticed(place: Path, name: str) -> None:
    write_pack("mnist", SMALL, place / "small")
    with safe_open(place / "small", framework="numpy") as file:
        arrays, facts = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    arrays[name] = arrays[name].copy()
    arrays[name][0] += 1
    (place / "small").write_bytes(save(arrays, facts))
    with pytest.raises(InputError, match=r"^small: is damaged: its digest is not that of its content"):
        pack.decode(Path("small"))


def test_the_command(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "pack", "mnist", *SMALL, "seed=2", "--out", "small"]) == 0
    packed = capsys.readouterr().out
    assert "pack of preset mnist (mnist), seed 2, 3 clients: 30 training and " in packed
    assert main(["data", "check", "small"]) == 0
    assert capsys.readouterr().out == packed
    for arguments, message in (
        (["mnist", *SMALL, "--out", "small"], "--out: small exists"),
        (["mnits", "--out", "new"], "did you mean mnist?"),
        (["mnist", "sed=1", "--out", "new"], "did you mean seed?"),
        (["mnist"], "--out"),
        (["cifar10", *SMALL, "--out", "nowhere/new"], "nowhere/new: cannot be written"),
    ):
        keys = ["data.partial=true"] if arguments[0] == "cifar10" else []
        assert main(["data", "pack", *arguments, *keys]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (place / "new").exists()


def test_what_is_missing_is_said_in_the_first_line(place: Path) -> None:
    keys = [*CIFAR, "rounds=1", "epochs=1", "batch=5", "model.name=mlp", "model.hidden=[4]"]
    run = fedlps.run("cifar10", out="run", overrides=keys)
    assert run.notes[0].startswith("cifar10 in part, 200 of 50000 training images (5 of 5 files: data_batch_1.bin, ")
    write_pack("cifar10", CIFAR, place / "small")
    packed = fedlps.run("cifar10", out="packed", overrides=[*keys, "data.root=small"])
    assert packed.notes == run.notes
    assert contents(place / "packed") == contents(place / "run")
