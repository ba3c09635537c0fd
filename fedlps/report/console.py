"""Where output goes: styled and wrapped on a terminal, plain and unwrapped anywhere else."""

import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

UNWRAPPED = 10_000  # columns where there is no terminal: one fact stays on one line
READABLE = 100  # columns of running text at most
INDENT = 4


def console() -> Console:
    """Standard output as it is now. No text is taken for markup, and colours need a terminal, whatever is forced."""
    terminal = sys.stdout.isatty()
    width = None if terminal else UNWRAPPED
    return Console(force_terminal=terminal, width=width, markup=False, highlight=False, emoji=False)


def is_live(console: Console) -> bool:
    """Whether a bar can be redrawn on it."""
    return console.is_terminal and not console.is_dumb_terminal


def say(console: Console, line: str, style: str = "") -> None:
    """One line. A terminal breaks it where it ends, so that paths and commands can be copied whole."""
    console.print(line, style=style, soft_wrap=True)


def entry(console: Console, heading: str, lines: Iterable[str]) -> None:
    """A heading and what belongs to it, indented; a line wraps at words."""
    say(console, heading, "bold")
    width = max(min(console.width, READABLE) if console.is_terminal else UNWRAPPED, 5 * INDENT) - INDENT
    for line in lines:
        for part in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]:
            say(console, f"{'':{INDENT}}{part}".rstrip())


def pairs(console: Console, values: Mapping[str, str]) -> None:
    """A line per label."""
    for label, text in values.items():
        say(console, f"{label:<{max(map(len, values)) + 2}}{text}")


def finding(console: Console, subject: str, text: str, broken: bool) -> None:
    """One thing looked at; what is broken stands out, on any output."""
    say(console, f"{'BROKEN ' if broken else ''}{subject}: {text}", "bold red" if broken else "")


def grid(console: Console, rows: Sequence[Mapping[str, str]]) -> None:
    """A table of rows with the same labels; where it is too narrow for one, the rows below each other."""
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    for column, label in enumerate(rows[0]):
        table.add_column(label, no_wrap=True, justify="left" if column < 2 else "right")
    for row in rows:
        table.add_row(*row.values())
    unwrapped = console.options.update(width=UNWRAPPED)
    if console.measure(table, options=unwrapped).maximum <= console.width:
        console.print(table)
        return
    for row in rows:
        pairs(console, row)
        console.print()
