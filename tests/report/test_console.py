import io
import sys

import pytest
from rich.console import Console

from fedlps.report.console import console, entry, finding, grid, is_live, pairs, say
from fedlps.report.quantities import duration, size

ROW = {"run": "runs/a[b]:x:", "method": "fedlps", "rounds": "1/2"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def narrow(width: int) -> Console:
    return Console(file=Terminal(), force_terminal=True, color_system=None, width=width, markup=False, emoji=False)


def printed(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_without_a_terminal_nothing_is_styled_or_wrapped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    entry(console(), "heading", ["word " * 100])
    say(console(), "x" * 300, "bold")
    assert not is_live(console())
    assert capsys.readouterr().out.splitlines() == ["heading", "    " + ("word " * 100).strip(), "x" * 300]


def test_a_dumb_terminal_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert is_live(console())
    monkeypatch.setenv("TERM", "dumb")
    assert not is_live(console())


def test_text_wraps_at_words_but_paths_stay_whole() -> None:
    screen = narrow(40)
    entry(screen, "heading", ["some words that are longer than one line of it"])
    pairs(screen, {"files": "runs/" + "x" * 60, "up": "1 B"})
    assert printed(screen) == [
        "heading",
        "    some words that are longer than one",
        "    line of it",
        "files  runs/" + "x" * 60,
        "up     1 B",
    ]


def test_what_is_broken_stands_out() -> None:
    screen = narrow(80)
    finding(screen, "torch", "is not installed", True)
    finding(screen, "numpy", "2.0", False)
    assert printed(screen) == ["BROKEN torch: is not installed", "numpy: 2.0"]


def test_a_table_that_is_too_wide_becomes_two_and_then_blocks() -> None:
    halves = (("run", "method"), ("run", "rounds"))
    wide, middle, small = narrow(40), narrow(28), narrow(20)
    for screen in (wide, middle, small):
        grid(screen, [ROW], halves)
    assert [line.split() for line in printed(wide)[::2]] == [[*ROW], [*ROW.values()]]
    assert [line.split() for line in printed(middle) if "run" in line] == [
        ["run", "method"],
        ["runs/a[b]:x:", "fedlps"],
        ["run", "rounds"],
        ["runs/a[b]:x:", "1/2"],
    ]
    assert printed(small) == ["run     runs/a[b]:x:", "method  fedlps", "rounds  1/2", ""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (size(0), "0 B"),
        (size(999), "999 B"),
        (size(1000), "1.0 kB"),
        (size(2.5e12), "2.5 TB"),
        (duration(0.00123), "0.00123 s"),
        (duration(59.4), "59.4 s"),
        (duration(59.6), "1:00"),
        (duration(3661), "1:01:01"),
    ],
)
def test_quantities(text: str, expected: str) -> None:
    assert text == expected
