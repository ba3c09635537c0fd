"""How far a run or a download is: a bar on a terminal, a few plain lines anywhere else."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Table
from rich.text import Text

from fedlps.report.console import is_live, say
from fedlps.report.quantities import clock, percent, size

LINES = 10  # of a run without a terminal
QUIET_S = 60.0  # without a line at most, while rounds end
NARROW = 70  # columns below which labels are left out


class Watch(Protocol):
    """What is told of a run's rounds."""

    def round(self, number: int, metrics: Mapping[str, float]) -> None:
        """A round, from 1, has ended."""


class Download(Protocol):
    """What is told of a download, or of images decoded: its name, how much is done, the whole."""

    def __call__(self, name: str, done: int, total: int, /) -> None: ...


class Pace:
    """How long the rounds that are left will take, by those played since now.

    done: rounds completed before; a resumed run says nothing about their pace.
    """

    def __init__(self, done: int, rounds: int) -> None:
        self._first = done
        self._rounds = rounds
        self._started = time.monotonic()
        self._end = math.nan

    def round(self, number: int) -> None:
        now = time.monotonic()
        self._end = now + (now - self._started) / (number - self._first) * (self._rounds - number)

    def left(self) -> str:
        """The time that is left, which runs down between rounds; `-` before the first."""
        return "-" if math.isnan(self._end) else clock(max(0.0, self._end - time.monotonic()))

    def elapsed(self) -> str:
        return clock(time.monotonic() - self._started)


class Latest:
    """The figures to show while a run goes on: those of the latest round that has them."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def round(self, metrics: Mapping[str, float]) -> None:
        self.metrics.update({name: value for name, value in metrics.items() if not math.isnan(value)})

    def accuracy(self) -> tuple[str, str]:
        """Name and percent of the accuracy that stands for the method: personal models' where it has them."""
        name = "test_last" if "test_last" in self.metrics else "test_global"
        return name, percent(self.metrics[name]) if name in self.metrics else "-"

    def ratio(self) -> str:
        return f"{self.metrics['ratio_mean']:.2f}" if "ratio_mean" in self.metrics else "-"


class RoomyProgress(Progress):
    """Leaves the end of the line free: the ^C that a terminal writes there would break a full line in two."""

    def __init__(self, *columns: ProgressColumn, console: Console) -> None:
        self._screen = console  # `Progress.console` is not there yet when the first table is made
        super().__init__(*columns, console=console, expand=True)

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        table = super().make_tasks_table(tasks)
        table.width = max(1, self._screen.width - len("^C") - 1)
        return table


class LeftColumn(ProgressColumn):
    """The time that is left."""

    def __init__(self, pace: Pace, label: str) -> None:
        super().__init__()
        self._pace, self._label = pace, label

    def render(self, task: Task) -> Text:
        return Text(f"{self._label}{self._pace.left()}")


class Bar:
    """A bar with round, accuracy, mean ratio and the time that is left."""

    def __init__(self, progress: Progress, task: TaskID, pace: Pace, narrow: bool) -> None:
        self._progress, self._task, self._pace, self._narrow = progress, task, pace, narrow
        self._latest = Latest()

    def round(self, number: int, metrics: Mapping[str, float]) -> None:
        self._pace.round(number)
        self._latest.round(metrics)
        self._progress.update(self._task, completed=number, figures=self.figures())

    def figures(self) -> str:
        name, accuracy = self._latest.accuracy()
        if self._narrow:
            return f"{accuracy}% {self._latest.ratio()}"
        return f"{name} {accuracy} %  ratio {self._latest.ratio()}"


class Lines:
    """A line every now and then."""

    def __init__(self, console: Console, done: int, rounds: int) -> None:
        self._console, self._rounds = console, rounds
        self._every = max(1, math.ceil(rounds / LINES))
        self._pace, self._latest = Pace(done, rounds), Latest()
        self._last = time.monotonic()

    def round(self, number: int, metrics: Mapping[str, float]) -> None:
        self._pace.round(number)
        self._latest.round(metrics)
        if number % self._every and number != self._rounds and time.monotonic() - self._last < QUIET_S:
            return
        self._last = time.monotonic()
        name, accuracy = self._latest.accuracy()
        say(
            self._console,
            f"round {number}/{self._rounds}  {name} {accuracy} %  ratio {self._latest.ratio()}  "
            f"elapsed {self._pace.elapsed()}  left {self._pace.left()}",
        )


@contextmanager
def rounds(console: Console, done: int, total: int) -> Iterator[Watch]:
    """Shows the rounds of a run of which `done` are completed."""
    if not is_live(console):
        yield Lines(console, done, total)
        return
    narrow = console.width < NARROW
    pace = Pace(done, total)
    columns = (
        TextColumn("{task.completed}/{task.total}" if narrow else "round {task.completed}/{task.total}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[figures]}"),
        LeftColumn(pace, "" if narrow else "left "),
    )
    with RoomyProgress(*columns, console=console) as progress:
        task = progress.add_task("", completed=done, total=total, figures="")
        bar = Bar(progress, task, pace, narrow)
        progress.update(task, figures=bar.figures())
        yield bar


@contextmanager
def downloads(console: Console) -> Iterator[Download]:
    """Shows the files of a download, one after the other."""
    if not is_live(console):
        yield lambda name, done, total: say(console, f"{name}: {size(total)}") if done == total else None
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), DownloadColumn())
    with RoomyProgress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done)

        yield show


@contextmanager
def decoding(console: Console) -> Iterator[Download]:
    """Shows how many images are decoded, if any are: most runs find them decoded."""
    if not is_live(console):
        yield lambda name, done, total: say(console, f"{name}: decoded {total} images") if done == total else None
        return
    columns = (TextColumn("decoding {task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
    progress = RoomyProgress(*columns, console=console)
    tasks: dict[str, TaskID] = {}

    def show(name: str, done: int, total: int) -> None:
        if name not in tasks:
            progress.start()
            tasks[name] = progress.add_task(name, total=total)
        progress.update(tasks[name], completed=done)

    try:
        yield show
    finally:
        if tasks:
            progress.stop()
