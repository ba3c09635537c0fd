from pathlib import Path

import pytest

from fedlps import launch, stream_check
from fedlps.cli import main
from fedlps.data import cifar, idx
from fedlps.engine.cuda import presence
from fedlps.errors import InputError
from fedlps.report.doctor import data_sets
from tests.data import cifar_files
from tests.data.files import arrays, write


def test_a_run_works_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    output, why = capsys.readouterr().out, presence.why_not()
    lines = dict(line.split(": ", 1) for line in output.splitlines())
    for subject in ("fedlps", "python", "numpy", "torch", "sqlite", "cores", "memory", "native", "cuda", "mnist"):
        assert lines[subject]
    assert any("select_units" in subject for subject in lines)
    assert lines["executor reference"] == "runs here"
    refused = f"got cuda, but {why}; allowed here: auto, cpu, reference"
    assert lines["executor cuda"] == (refused if why else "runs here")
    assert "driver" in lines["cuda"]
    assert "triton" in lines["cuda"]
    assert why in lines["cuda"]
    assert lines["streams"] == "every recorded draw comes out"
    assert lines["run"].startswith("a round with four clients works")
    assert lines["result"] == "a run works here"
    assert "BROKEN" not in output


def test_other_draws_are_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(stream_check, "streams_reproduce", lambda: "stream(0) differs")
    assert main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert "BROKEN streams: stream(0) differs" in output
    assert "BROKEN result: " in output


def test_a_run_that_fails_is_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*_: object, **__: object) -> None:
        raise InputError("FEDLPS_ISA: got 'mmx'")

    monkeypatch.setattr(launch, "run", run)
    assert main(["doctor"]) == 1
    assert "BROKEN run: FEDLPS_ISA: got 'mmx'" in capsys.readouterr().out


def test_data_sets_are_found_where_a_run_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLPS_DATA", str(tmp_path))
    write(tmp_path / "kmnist", arrays())
    write(tmp_path / "mnist", arrays())
    (tmp_path / "mnist" / f"{idx.STEMS[0]}.gz").unlink()
    found = {finding.subject: finding.text for finding in data_sets()}
    assert found["data"] == f"FEDLPS_DATA={tmp_path}"
    assert found["kmnist"] == f"found in {tmp_path / 'kmnist'}"
    assert found["mnist"].startswith(f"not found in {tmp_path / 'mnist'}: 1 files are missing")


def test_data_sets_in_part_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLPS_DATA", str(tmp_path))
    cifar_files.write(tmp_path / "cifar10", cifar.CIFAR10, batches=2)
    for folder in ("train", "val/images"):
        (tmp_path / "tiny_imagenet" / folder).mkdir(parents=True)
    (tmp_path / "tiny_imagenet" / "val" / "val_annotations.txt").touch()
    for classes, text in [(20, "found in part in {}: runs with data.partial=true"), (200, "found in {}")]:
        names = "".join(f"n{number}\n" for number in range(classes))
        (tmp_path / "tiny_imagenet" / "wnids.txt").write_text(names)
        found = {finding.subject: finding.text for finding in data_sets()}
        assert found["tiny_imagenet"] == text.format(tmp_path / "tiny_imagenet")
    assert found["cifar10"] == f"found in part in {tmp_path / 'cifar10'}: runs with data.partial=true"
