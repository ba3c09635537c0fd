import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from fedlps.errors import InputError
from fedlps.run.directory import check_directory, make_directory
from fedlps.run.files import write_atomically
from fedlps.run.store import RunStore


@pytest.fixture
def run(directory: Path, config_yaml: str) -> Path:
    """A finished run, and a note of its user's."""
    with RunStore.create(directory, config_yaml) as store:
        store.add_metrics(1, {"loss": 1.0})
        store.checkpoint()
        store.write_model({"a": numpy.zeros(1)})
    (directory / "notes.txt").write_text("mine")
    (directory / "run.yaml.tmp").write_text("left by a killed run")
    return directory


def test_names(tmp_path: Path) -> None:
    base = tmp_path / "runs"
    made = [make_directory(None, "digits-fedlps-seed0", base=base).name for _ in range(3)]
    assert made == ["digits-fedlps-seed0", "digits-fedlps-seed0-2", "digits-fedlps-seed0-3"]
    assert make_directory(tmp_path / "a" / "b", "name") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


def test_runs_started_together_get_different_directories(tmp_path: Path) -> None:
    code = "import sys, pathlib\nfrom fedlps.run.directory import make_directory\n"
    code += "print(make_directory(None, 'x', base=pathlib.Path(sys.argv[1])))"
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in started}) == 4


def test_a_directory_that_exists_needs_a_word(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists; --resume goes on with its run, --overwrite replaces it"):
        check_directory(run, resume=False, overwrite=False)
    check_directory(run, resume=True, overwrite=False)
    check_directory(run, resume=False, overwrite=True)
    check_directory(tmp_path / "new", resume=False, overwrite=False)
    check_directory(tmp_path / "new", resume=False, overwrite=True)
    check_directory(None, resume=False, overwrite=False)
    for out, resume, overwrite, expected in [
        (tmp_path / "new", True, False, "does not exist"),
        (None, True, False, "--resume: expected --out DIR"),
        (None, False, True, "--overwrite: expected --out DIR"),
        (run, True, True, "expected one of them"),
        (run / "notes.txt", False, False, "is no directory"),
        (run / "notes.txt", False, True, "is no directory"),
    ]:
        with pytest.raises(InputError) as error:
            check_directory(out, resume=resume, overwrite=overwrite)
        assert expected in str(error.value)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_overwrite_removes_a_runs_own_files_only(run: Path, config_yaml: str) -> None:
    make_directory(run, "name", overwrite=True)
    assert sorted(path.name for path in run.iterdir()) == ["lock", "notes.txt"]
    with RunStore.create(run, config_yaml) as store:
        assert store.rounds == 0


@pytest.mark.parametrize("files", [[], ["notes.txt"], ["run.yaml"], ["run.db"], ["lock", "notes.txt"], ["metrics.csv"]])
@pytest.mark.parametrize("way", ["resume", "overwrite"])
def test_a_directory_that_is_no_run_is_left_alone(tmp_path: Path, files: list[str], way: str) -> None:
    for name in files:
        (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="is a directory that is no run") as error:
        check_directory(tmp_path, resume=way == "resume", overwrite=way == "overwrite")
    assert "\n" not in str(error.value)
    if way == "overwrite":
        with pytest.raises(InputError, match="is a directory that is no run"):
            make_directory(tmp_path, "name", overwrite=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(files, "mine")


@pytest.mark.parametrize("left", [["lock"], ["lock", "run.yaml.tmp"], ["run.db", "notes.txt"], ["run.yaml"]])
def test_what_a_killed_run_leaves_can_be_overwritten(run: Path, left: list[str]) -> None:
    for path in run.iterdir():
        if path.name not in left:
            path.unlink()
    make_directory(run, "name", overwrite=True)
    assert {path.name for path in run.iterdir()} <= {"lock", "notes.txt"}


def test_a_run_that_is_being_written_is_not_overwritten(run: Path) -> None:
    with RunStore.open(run), pytest.raises(InputError, match=f"process {os.getpid()} is writing this run"):
        make_directory(run, "name", overwrite=True)
    with RunStore.read(run) as store:
        assert store.rounds == 1


def test_a_place_where_nothing_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written: Not a directory") as error:
        make_directory(tmp_path / "file" / "run", "name")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="cannot be written"):
        make_directory(None, "name", base=tmp_path / "file")


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv"
    write_atomically(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, full)
            with pytest.raises(InputError, match=r"metrics.csv: cannot be written: No space left on device"):
                write_atomically(path, "new")
        assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.csv"]
        assert path.read_text() == "old"
    write_atomically(path, b"new")
    assert path.read_text() == "new"
