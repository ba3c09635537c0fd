"""`fedlps reproduce methods`: what is run, reused, gone on with; what the table says; what fails."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fedlps
from fedlps.cli import main
from fedlps.methods import METHODS
from fedlps.report import reproduce
from fedlps.run.store import RunStore
from tests.running import contents

TINY = ("clients=4", "fraction=0.5", "epochs=1", "rounds=2", "split.test_per_class=10", "model.name=mlp")
CHOSEN = ("--method", "fedlps", "--method", "fedavg")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, compared. Not to be changed."""
    place = tmp_path_factory.mktemp("compared") / "out"
    assert main(["reproduce", "methods", "data=digits", *TINY, *CHOSEN, "--out", str(place)]) == 0
    return place


def table(place: Path) -> dict[str, dict[str, str]]:
    """The rows of methods.md by method."""
    lines = [line for line in (place / "methods.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(f"started {arguments}")

    monkeypatch.setattr(reproduce, "Process", refuse)


def test_the_table_says_what_the_runs_reached_and_spent(compared) -> None:
    rows = table(compared)
    assert list(rows) == ["fedavg", "fedlps"]
    with RunStore.read(compared / "fedavg") as store:
        baseline = store.metrics()
    with RunStore.read(compared / "fedlps") as store:
        own = store.metrics()
    assert rows["fedavg"]["accuracy"] == f"{baseline['test_global'].mean():.2f}"
    assert (rows["fedavg"]["model"], rows["fedavg"]["best"]) == ("global", "-")
    assert rows["fedlps"]["accuracy"] == f"{own['test_last'].mean():.2f}"
    assert (rows["fedlps"]["model"], rows["fedlps"]["best"]) == ("personal", f"{own['test_best'].mean():.2f}")
    assert (rows["fedavg"]["paper"], rows["fedavg"]["executed"]) == ("1.000", "1.000")
    assert rows["fedlps"]["paper"] == f"{own['flops_paper'][-1] / baseline['flops_paper'][-1]:.3f}"
    assert rows["fedlps"]["executed"] == f"{own['flops_executed'][-1] / baseline['flops_executed'][-1]:.3f}"
    assert all(rows["fedlps"][name] not in ("", "-") for name in ("up", "down", "simulated"))


@pytest.mark.usefixtures("nothing_runs")
def test_finished_runs_are_reused_and_the_baseline_is_found(compared, tmp_path, capsys) -> None:
    place = Path(shutil.copytree(compared, tmp_path / "out"))
    (place / "methods.md").unlink()
    assert main(["reproduce", "methods", *TINY, "--method", "fedlps", "--out", str(place)]) == 0
    assert table(place) == {"fedlps": table(compared)["fedlps"]}
    assert "finished before: fedlps" in capsys.readouterr().out


@pytest.mark.usefixtures("nothing_runs")
def test_other_configurations_are_refused_before_anything_runs(compared, capsys) -> None:
    before = (compared / "methods.md").read_bytes()
    assert main(["reproduce", "methods", *TINY, "seed=1", *CHOSEN, "--out", str(compared)]) == 2
    assert capsys.readouterr().err.endswith("is a run of another configuration; choose another DIR\n")
    assert (compared / "methods.md").read_bytes() == before


def test_broken_runs_go_on_and_one_that_fails_is_a_row(compared, tmp_path, capsys) -> None:
    """One run stopped after its first round; the directory of the other is no run."""
    place = tmp_path / "out"

    def stop(number: int, metrics: object) -> None:
        if number == 1:
            signal.raise_signal(signal.SIGTERM)

    overrides = (*TINY, "checkpoint_every=1")
    fedlps.run("digits", method="fedavg", out=place / "fedavg", overrides=overrides, on_round=stop)
    with RunStore.read(place / "fedavg") as store:
        assert store.rounds == 1
    (place / "fedlps").mkdir()
    (place / "fedlps" / "letter.txt").write_text("not ours")
    assert main(["reproduce", "methods", *TINY, *CHOSEN, "--out", str(place)]) == 1
    assert contents(place / "fedavg") == contents(compared / "fedavg")
    rows = table(place)
    assert rows["fedavg"] == table(compared)["fedavg"]
    assert rows["fedlps"]["accuracy"].startswith("failed: --out: ")
    assert rows["fedlps"]["accuracy"].endswith("is a directory that is no run; choose another DIR")
    printed = capsys.readouterr().out
    assert "fedlps: failed after" in printed
    assert "fedlps failed: --out: " in printed
    assert (place / "fedlps" / "letter.txt").read_text() == "not ours"


def test_ctrl_c_stops_all_at_checkpoints(tmp_path) -> None:
    place = tmp_path / "out"
    words = [*TINY[:3], "rounds=100000", "split.test_per_class=10", *CHOSEN, "--out", str(place)]
    command = [sys.executable, "-m", "fedlps", "reproduce", "methods", *words, "checkpoint_every=1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        began = time.monotonic()
        while not any((place / name / "metrics.csv").exists() for name in ("fedavg", "fedlps")):
            assert time.monotonic() - began < 60
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + signal.SIGINT
    assert errors == "stopped; the same command goes on\n"
    assert not (place / "methods.md").exists()
    begun = [name for name in ("fedavg", "fedlps") if (place / name / "run.db").exists()]
    assert begun
    for name in begun:  # opening fails while a process still writes
        with RunStore.open(place / name) as store:
            assert store.rounds >= 0


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=digit"], 'preset: got "digit", did you mean digits?'),
        (["data=digits", "data=mnist"], "data: is given twice, as digits and mnist"),
        (["--method", "fedavk"], '--method: got "fedavk", did you mean fedavg?'),
        (["rounds=0"], "rounds: got 0"),
        (["round=1"], '"round": unknown key'),
        (["--out", "file"], "--out: file is no directory"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, words, said) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(["reproduce", "methods", *words]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert errors.startswith(f"fedlps: {said}")
    assert os.listdir() == ["file"]


def test_there_is_one_baseline() -> None:
    assert [name for name, recipe in METHODS.items() if recipe.baseline] == ["fedavg"]
