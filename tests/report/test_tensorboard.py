"""`--tensorboard`: what is written, with a stand-in for the package; and the line without it."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Self

import numpy
import pytest

from fedlps.cli import main
from fedlps.run.store import RunStore

RUN = ("run", "clients=4", "fraction=0.5", "epochs=1", "evaluation.every=2", "checkpoint_every=1", "--tensorboard")
EVENTS = "events.out.tfevents.7"


class Writer:
    """Writes a line per scalar, as SummaryWriter writes a record."""

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / EVENTS
        self.path.parent.mkdir(exist_ok=True)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        with self.path.open("a") as stream:
            stream.write(f"{step} {tag} {value!r}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stand_in = ModuleType("torch.utils.tensorboard")
    vars(stand_in)["SummaryWriter"] = Writer
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stored(run: Path) -> list[str]:
    """What the stand-in should have written, from what the run has stored."""
    with RunStore.read(run) as store:
        columns = store.metrics()
    numbers = columns.pop("round")
    return sorted(
        f"{number} {name} {float(value)!r}"
        for name, column in columns.items()
        for number, value in zip(numbers, column, strict=True)
        if not numpy.isnan(value)
    )


def written(run: Path) -> list[str]:
    return sorted((run / "tensorboard" / EVENTS).read_text().splitlines())


def test_every_metric_of_every_round_is_written(place: Path) -> None:
    assert main([*RUN, "rounds=3", "--out", "run"]) == 0
    assert written(place / "run") == stored(place / "run")
    assert not any(line.startswith("1 test_last ") for line in written(place / "run")), "round 1 was not evaluated"


def test_a_resumed_run_has_every_round_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StopError(Exception):
        pass

    add = Writer.add_scalar

    def stop(self: Writer, tag: str, value: float, step: int) -> None:
        if step == 2:
            raise StopError
        add(self, tag, value, step)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "add_scalar", stop)
        with pytest.raises(StopError):
            main([*RUN, "rounds=3", "--out", "run"])
    assert written(place / "run") != stored(place / "run")
    assert main(["run", "--resume", "--tensorboard", "--out", "run"]) == 0
    assert written(place / "run") == stored(place / "run")


def test_an_overwritten_run_leaves_no_events(place: Path) -> None:
    assert main([*RUN, "rounds=1", "--out", "run"]) == 0
    (place / "run" / "tensorboard" / "notes").write_text("the user's own")
    assert main([*RUN[:-1], "rounds=1", "--out", "run", "--overwrite"]) == 0
    assert [path.name for path in (place / "run" / "tensorboard").iterdir()] == ["notes"]


def test_without_the_package_it_is_one_line_and_nothing_is_written(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main([*RUN, "rounds=1", "--out", "run"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "fedlps: --tensorboard: the package tensorboard is not installed: pip install 'fedlps[tensorboard]'\n"
    )
    assert list(place.iterdir()) == []
