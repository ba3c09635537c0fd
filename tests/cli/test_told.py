"""What the command line tells of itself, and how it ends outside a run."""

import errno
import sys
from pathlib import Path

import pytest

from fedlps import __version__
from fedlps.cli import main
from fedlps.errors import InputError
from fedlps.report import choices
from fedlps.run.config import Config
from fedlps.run.keys import rows_of
from tests.cli.commands import command_line


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "run/x"), 1, "fedlps: run/x: No space left on device\n"),
        (OSError("odd"), 1, "fedlps: odd\n"),
        (MemoryError(), 1, "fedlps: there is not enough memory\n"),
        (InputError("two\nlines"), 2, "fedlps: two lines\n"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int, line: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(choices, "listed_presets", fail)
    assert main(["presets"]) == code
    assert capsys.readouterr() == ("", line)


def test_ctrl_c_outside_a_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(choices, "listed_presets", interrupt)
    assert main(["presets"]) == 130
    assert capsys.readouterr().out == ""


def test_a_reader_that_goes_away_is_no_error(place: Path) -> None:
    process = command_line("presets", cwd=place)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    process.stderr.close()


def test_explain_lists_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "mnist", "lr=0.5", "--explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.partition("=")[0] for line in lines if not line.startswith(" ")]
    assert listed == [row.key for row in rows_of(Config)]
    assert "lr=0.5" in lines
    assert "clients=100" in lines
    assert "split.alpha=required" in lines
    assert "    allowed: a number in (0, 1]" in lines
    assert "    share of the clients selected per round" in lines


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "fedlps run"),
        (["-h"], "Usage: fedlps"),
        ([], "Usage: fedlps"),
        (["run", "-h"], "fedlps run mnist --method fedavg"),
        (["table", "--help"], "fedlps table runs/*"),
        (["data", "get", "-h"], "--mirror"),
        (["--version"], f"fedlps {__version__}"),
        (["methods"], "FedAvg: every client trains the whole model"),
        (["methods", "fedlps"], "Learnable Sparse Customization in Heterogeneous Edge Computing"),
        (["presets"], "    rounds=100 clients=30 fraction=0.2 epochs=5 batch=10 lr=0.1"),
        (["data"], "digits: comes with scikit-learn"),
    ],
)
def test_what_there_is_is_told(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fedlps", *arguments])
    assert main() == 0
    printed = capsys.readouterr()
    assert expected in printed.out
    assert printed.err == ""
