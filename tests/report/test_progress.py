import io
import math

import pytest
from rich.console import Console

from fedlps.report import progress
from fedlps.report.progress import Pace, downloads, rounds

METRICS = {"test_last": 91.234, "test_global": 50.0, "ratio_mean": 0.456}


class Clock:
    """Time that passes when told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def screen(width: int = 80, terminal: bool = False) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=width, force_terminal=terminal, color_system=None, markup=False), text


def test_time_left_counts_only_rounds_played_now(clock: Clock) -> None:
    pace = Pace(90, 100)
    assert pace.left() == "-"
    clock.now += 20
    pace.round(92)
    assert pace.left() == "1:20"
    clock.now += 30  # it runs down while a round lasts
    assert pace.left() == "0:50"
    clock.now += 3600
    assert pace.left() == "0:00"


def test_a_run_without_a_terminal_is_a_few_lines(clock: Clock) -> None:
    console, text = screen()
    with rounds(console, 0, 1000) as watch:
        for number in range(1, 1001):
            clock.now += 0.5
            watch.round(number, METRICS)
    lines = text.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "round 100/1000  test_last 91.23 %  ratio 0.46  elapsed 0:50  left 7:30"
    assert lines[-1].startswith("round 1000/1000 ")
    assert "".join(lines).isprintable()


def test_slow_rounds_are_a_line_a_minute(clock: Clock) -> None:
    console, text = screen()
    with rounds(console, 0, 1000) as watch:
        for number in range(1, 10):
            clock.now += 25
            watch.round(number, METRICS)
    assert [line.split()[1] for line in text.getvalue().splitlines()] == ["3/1000", "6/1000", "9/1000"]


def test_what_was_not_evaluated_is_as_before(clock: Clock) -> None:
    console, text = screen()
    with rounds(console, 0, 3) as watch:
        watch.round(1, {"ratio_mean": 0.5})
        watch.round(2, {"ratio_mean": 0.25, "test_global": 12.0})
        watch.round(3, {"ratio_mean": 0.75, "test_global": math.nan})
    first, second, third = text.getvalue().splitlines()
    assert "test_global - %  ratio 0.50" in first
    assert "test_global 12.00 %  ratio 0.25" in second
    assert "test_global 12.00 %  ratio 0.75" in third


@pytest.mark.parametrize(
    ("width", "parts"),
    [(40, ["92/100", "91.23% 0.46", "1:20"]), (80, ["round 92/100", "test_last 91.23 %  ratio 0.46", "left 1:20"])],
)
def test_the_bar_fits_and_leaves_room_for_ctrl_c(clock: Clock, width: int, parts: list[str]) -> None:
    console, text = screen(width, terminal=True)
    with rounds(console, 90, 100) as watch:
        clock.now += 20
        watch.round(92, METRICS)
    last = text.getvalue().replace("\x1b[?25h", "").rstrip("\n").rpartition("\r")[2].replace("\x1b[2K", "")
    for part in parts:
        assert part in last
    assert "\u2501" in last
    assert len(last) == width - 3


def test_downloads_without_a_terminal_are_a_line_per_file() -> None:
    console, text = screen()
    with downloads(console) as download:
        for done in (0, 500, 1500):
            download("first", done, 1500)
        download("second", 10, 10)
    assert text.getvalue() == "first: 1.5 kB\nsecond: 10 B\n"


def test_downloads_on_a_terminal_are_a_bar_per_file() -> None:
    console, text = screen(60, terminal=True)
    with downloads(console) as download:
        download("first", 500, 1500)
        download("first", 1500, 1500)
        download("second", 5, 10)
    last = [line for line in text.getvalue().splitlines() if "bytes" in line or "kB" in line][-2:]
    assert "first" in last[0]
    assert "1.5/1.5 kB" in last[0]
    assert "5/10 bytes" in last[1]
