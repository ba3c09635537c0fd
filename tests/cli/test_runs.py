"""Runs from the command line: what they print and leave, and how they end."""

import signal
from pathlib import Path

import pytest

from fedlps.cli import main
from fedlps.run.store import RunStore, read_record
from tests.cli.commands import TINY, command_line

OWN_FILES = {"run.yaml", "run.db", "lock", "metrics.csv", "model.safetensors"}


def test_a_run_end_to_end(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *TINY]) == 0
    output = capsys.readouterr().out
    assert {path.name for path in (place / "runs" / "digits-fedlps-seed0").iterdir()} == OWN_FILES
    assert "fedlps on digits with digits_cnn: 2 rounds, 4 clients, 0.5 of them per round, seed 0" in output
    assert "round 1/2  test_last " in output
    assert "round 2/2  test_last " in output
    for label in ("best", "last", "global", "flops_paper", "flops_executed", "up", "down", "simulated", "wall"):
        assert any(line.startswith(label) for line in output.splitlines()), label
    assert output.rstrip().endswith("runs/digits-fedlps-seed0")
    assert "\x1b" not in output
    assert "\r" not in output


def test_a_finished_run_is_resumed_to_nothing(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (copied / "metrics.csv").read_bytes()
    assert main(["run", "--resume", "--out", "run", "--method", "fedlps", "clients=4", "--device", "cpu"]) == 0
    assert "2 of 2 rounds are done" in capsys.readouterr().out
    assert (copied / "metrics.csv").read_bytes() == before


def test_a_run_is_overwritten(copied: Path) -> None:
    assert main(["run", *TINY, "seed=7", "--overwrite", "--out", "run"]) == 0
    assert read_record(copied).config.seed == 7


def test_a_run_in_which_all_diverge_fails_in_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *TINY, "lr=1e30", "--out", "run"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fedlps: round 1: all clients (")
    assert error.count("\n") == 1
    assert main(["table", "run"]) == 0


def test_table_has_a_row_per_run_and_a_mean_over_seeds(
    copied: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *TINY, "seed=1", "--out", "other"]) == 0
    capsys.readouterr()
    assert main(["table", "run", "other"]) == 0
    header, first, second, mean, _ = capsys.readouterr().out.splitlines()
    assert header.split()[:6] == ["run", "method", "seed", "rounds", "best", "best10"]
    assert first.split()[:4] == ["run", "fedlps", "0", "2/2"]
    assert second.split()[:4] == ["other", "fedlps", "1", "2/2"]
    assert mean.split()[:5] == ["mean", "fedlps", "2", "runs", "2/2"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_a_checkpoint(
    place: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    process = command_line("run", *TINY[:-1], "rounds=20", "model.name=mlp", "--out", "run", cwd=place)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("round "):
            break
    process.send_signal(number)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    with RunStore.read(place / "run") as store:
        done = store.rounds
    assert 0 < done < 20
    assert error == f"stopped after round {done}; to go on: fedlps run --resume --out run\n"
    assert "\x1b" not in output  # although colours were asked for
    assert main(["run", "--resume", "--out", "run", "checkpoint_every=1"]) == 0
    assert f"{done} of 20 rounds are done\n" in capsys.readouterr().out
    with RunStore.read(place / "run") as store:
        assert store.rounds == 20
