"""A finished run, an empty directory, and what a refusal must look like."""

import shutil
from pathlib import Path

import pytest

from fedlps.cli import main
from tests.cli.commands import TINY, Refused


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds. Not to be changed."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    assert main(["run", *TINY, "--out", str(directory)]) == 0
    return directory


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def copied(finished: Path, place: Path) -> Path:
    """The run of two rounds, to be changed."""
    return Path(shutil.copytree(finished, place / "run"))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], place: Path) -> Refused:
    """Runs the command line: one line on standard error, nothing elsewhere, exit code 2, no file or directory made."""

    def run(*arguments: str, started: bool = False) -> str:
        before = set(place.rglob("*"))
        capsys.readouterr()
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("fedlps: ")
        assert printed.err.count("\n") == 1
        assert started or printed.out == ""
        assert set(place.rglob("*")) == before
        return printed.err

    return run
