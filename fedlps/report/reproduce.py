"""Every method on one preset, each run a process of its own, as many side by side as there are cores; then a table."""

import math
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from fedlps.errors import InputError
from fedlps.interruption import Interruption
from fedlps.methods import METHODS
from fedlps.models import ZOO
from fedlps.report.console import grid, say, tell
from fedlps.report.doctor import cores
from fedlps.report.quantities import clock, duration, percent, size
from fedlps.report.table import Figures, figures
from fedlps.run.config import Config
from fedlps.run.files import cannot_write, write_atomically
from fedlps.run.record import fingerprint
from fedlps.run.resolve import resolve
from fedlps.run.store import RunStore, read_record
from fedlps.run.values import unknown

POLL_S = 0.1
LABELS = ("method", "accuracy", "model", "best", "paper", "executed", "up", "down", "simulated")
HALVES = (LABELS[:6], (LABELS[0], *LABELS[6:]))


@dataclass(frozen=True)
class Task:
    """One run of the comparison: its method, its directory and its configuration."""

    method: str
    directory: Path
    config: Config

    def finished(self) -> bool:
        """Whether all its rounds are stored. InputError: the directory holds a run of another configuration."""
        try:
            stored = read_record(self.directory).config
        except InputError:
            return False  # there is none, or it is damaged, which the run itself will say
        if fingerprint(stored) != fingerprint(self.config):
            raise InputError(f"--out: {self.directory} is a run of another configuration; choose another DIR")
        try:
            with RunStore.read(self.directory) as store:
                return store.rounds == self.config.rounds and (self.directory / "model.safetensors").exists()
        except InputError:
            return False

    def figures(self) -> Figures:
        """What its run reached and spent."""
        with RunStore.read(self.directory) as store:
            return figures(store.metrics())

    def arguments(self, preset: str, overrides: Sequence[str]) -> list[str]:
        """Of `fedlps run`: a new run, or one that goes on."""
        if (self.directory / "run.yaml").exists():
            return ["--resume", "--out", str(self.directory), *overrides]
        # a run that was killed at its very start leaves a directory with nothing to go on with
        again = ["--overwrite"] if self.directory.exists() else []
        return [preset, "--method", self.method, "--out", str(self.directory), *again, *overrides]


class Process:
    """A run in a process of its own; a Ctrl-C at the terminal reaches it through us only."""

    def __init__(self, arguments: Sequence[str], complaints: Path) -> None:
        self._complaints = complaints  # a file: nobody reads a pipe before the end
        self._started = time.monotonic()
        with complaints.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fedlps", "run", *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, process_group=0,
            )  # fmt: skip

    def ended(self) -> bool:
        """Whether it has ended, by itself or not."""
        return self._process.poll() is not None

    def outcome(self) -> str | None:
        """Of a process that has ended: the last line of its complaint, or None if all is done."""
        code = self._process.returncode
        if code == 0:
            return None
        lines = self._complaints.read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("fedlps: ") if lines else f"ended with exit code {code}"

    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._started

    def stop(self) -> None:
        """Ask for a checkpoint and the end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once; what it stored last stands."""
        self._process.kill()
        self._process.wait()


def reproduce(console: Console, words: Sequence[str], methods: Sequence[str], out: Path | None) -> int:
    """Run the named methods (none named: all there are) and show the table; DIR/methods.md holds it, too.

    words: key=value, of which data=PRESET chooses the preset, by default digits. out: by default
    runs/reproduce-<preset>; every run lies in a directory of it. Finished runs are reused, others gone on with.
    Returns the exit code: 1 if a run failed, 128 + the signal's number if stopped. InputError before anything is run.
    """
    preset, overrides = _preset(words)
    for name in methods:
        if name not in METHODS:
            raise unknown("--method", name, METHODS)
    place = Path("runs") / f"reproduce-{preset}" if out is None else out
    if place.exists() and not place.is_dir():
        raise InputError(f"--out: {place} is no directory")
    parameters = {name: recipe.parameters for name, recipe in METHODS.items()}
    tasks = [
        Task(name, place / name, resolve(preset, overrides, name, parameters, ZOO))
        for name in METHODS
        if name in (methods or METHODS)
    ]
    finished = [task for task in tasks if task.finished()]
    if finished:
        tell(console, f"finished before: {', '.join(task.method for task in finished)}")
    waiting = [task for task in tasks if task not in finished]
    failures, stopped = _play(console, waiting, preset, overrides)
    if stopped is not None:
        print("stopped; the same command goes on", file=sys.stderr)
        return 128 + stopped
    _show(console, tasks, failures, _baseline(preset, overrides, place))
    command = shlex.join(["fedlps", "reproduce", "methods", f"data={preset}", *overrides])
    path = place / "methods.md"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(place, error) from error
    write_atomically(path, _markdown(tasks, failures, _baseline(preset, overrides, place), command))
    say(console, str(path))
    return 1 if failures else 0


def _preset(words: Sequence[str]) -> tuple[str, list[str]]:
    """The preset that data=... chooses, and the words that remain."""
    chosen = [word.removeprefix("data=") for word in words if word.startswith("data=")]
    if len(chosen) > 1:
        raise InputError(f"data: is given twice, as {chosen[0]} and {chosen[1]}")
    return chosen[0] if chosen else "digits", [word for word in words if not word.startswith("data=")]


def _play(
    console: Console, waiting: list[Task], preset: str, overrides: Sequence[str]
) -> tuple[dict[str, str], int | None]:
    """Run them all. What failed and why, and the signal that ended it, after which every run is at a checkpoint."""
    failures: dict[str, str] = {}
    running: dict[str, Process] = {}
    left, asked = len(waiting), False
    interruption = Interruption()
    with tempfile.TemporaryDirectory() as folder, interruption.listening():
        try:
            while running or (waiting and interruption.signal is None):
                while waiting and len(running) < cores() and interruption.signal is None:
                    task = waiting.pop(0)
                    running[task.method] = Process(task.arguments(preset, overrides), Path(folder, task.method))
                time.sleep(POLL_S)
                if interruption.signal is not None and not asked:
                    asked = True
                    for process in running.values():
                        process.stop()
                for name in [name for name, process in running.items() if process.ended()]:
                    process = running.pop(name)
                    why = process.outcome()
                    left -= 1
                    if why is not None and interruption.signal is None:
                        failures[name] = why
                    state = "done" if why is None else "stopped" if name not in failures else "failed"
                    say(console, f"{name}: {state} after {clock(process.seconds())}, {left} left")
        finally:
            for process in running.values():  # only if something ended us before they did
                process.kill()
    return failures, interruption.signal


def _baseline(preset: str, overrides: Sequence[str], place: Path) -> tuple[str, Figures | None]:
    """The method whose cost is 1, and its figures if there is a finished run of it."""
    name = next(name for name, recipe in METHODS.items() if recipe.baseline)
    try:
        config = resolve(preset, overrides, name, {name: METHODS[name].parameters}, ZOO)
        task = Task(name, place / name, config)
        return name, task.figures() if task.finished() else None
    except InputError:  # an override is another method's parameter
        return name, None


def _cells(method: str, values: Figures, baseline: Figures | None) -> dict[str, str]:
    model = "global" if math.isnan(values["last10"]) else "personal"
    reached = values["global10"] if math.isnan(values["last10"]) else values["last10"]
    relative = [
        "-" if baseline is None else f"{values[name] / baseline[name]:.3f}"
        for name in ("flops_paper", "flops_executed")
    ]
    best = "-" if math.isnan(values["best10"]) else percent(values["best10"])
    spent = [size(values["up"]), size(values["down"]), duration(values["simulated"])]
    return dict(zip(LABELS, [method, percent(reached), model, best, *relative, *spent], strict=True))


def _legend(baseline: str) -> str:
    return (
        "accuracy: percent of the clients' own test samples, mean of the latest 10 evaluations, of the global model or "
        "of every client's own (model: personal); best: of the personal models that were best in validation; paper, "
        f"executed: FLOPs by the paper's count and really computed, relative to {baseline}; up, down: bytes of all "
        "rounds; simulated: time of all rounds."
    )


def _show(
    console: Console, tasks: Sequence[Task], failures: Mapping[str, str], baseline: tuple[str, Figures | None]
) -> None:
    rows = []
    for task in tasks:
        if task.method in failures:
            rows.append(dict.fromkeys(LABELS, "-") | {"method": task.method, "accuracy": "failed"})
        else:
            rows.append(_cells(task.method, task.figures(), baseline[1]))
    console.print()
    grid(console, rows, HALVES)
    console.print()
    tell(console, _legend(baseline[0]))
    for name, why in failures.items():
        tell(console, f"{name} failed: {why}")


def _markdown(
    tasks: Sequence[Task], failures: Mapping[str, str], baseline: tuple[str, Figures | None], command: str
) -> str:
    config = tasks[0].config
    lines = [f"`{command}`", "", f"{config.rounds} rounds, {config.clients} clients, seed {config.seed}.", ""]
    lines += [f"| {' | '.join(LABELS)} |", f"|{'---|' * len(LABELS)}"]
    for task in tasks:
        if task.method in failures:
            why = failures[task.method].replace("|", "\\|")
            cells = [task.method, f"failed: {why}", *[""] * (len(LABELS) - 2)]
        else:
            cells = list(_cells(task.method, task.figures(), baseline[1]).values())
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _legend(baseline[0]), ""])
