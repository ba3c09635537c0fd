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


def tell(console: Console, text: str, style: str = "", *, first: str = "", rest: str = "") -> None:
    """Running text, which wraps at words. first, rest: what its first and its other lines begin with."""
    width = max(min(console.width, READABLE) if console.is_terminal else UNWRAPPED, 5 * INDENT)
    lines = textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    for line in lines or [""]:
        say(console, line, style)


def entry(console: Console, heading: str, lines: Iterable[str]) -> None:
    """A heading and what belongs to it, indented."""
    say(console, heading, "bold")
    for line in lines:
        tell(console, line, first=" " * INDENT, rest=" " * INDENT)


def finding(console: Console, subject: str, text: str, broken: bool) -> None:
    """One thing looked at; what is broken stands out, on any output."""
    mark = "BROKEN " if broken else ""
    tell(console, f"{mark}{subject}: {text}", "bold red" if broken else "", rest=" " * INDENT)


def pairs(console: Console, values: Mapping[str, str]) -> None:
    """A line per label."""
    for label, text in values.items():
        say(console, f"{label:<{max(map(len, values)) + 2}}{text}")


def grid(console: Console, rows: Sequence[Mapping[str, str]], halves: Sequence[Sequence[str]] = ()) -> None:
    """A table of rows with the same labels; the first column stands left, the others right.

    halves: labels of the two tables that it becomes where it is too wide; if these are, too, each row is a block.
    """
    whole = list(rows[0])
    for layout in ([whole], halves):
        tables = [_table([{label: row[label] for label in labels} for row in rows], console) for labels in layout]
        if tables and all(_width(console, table) <= console.width for table in tables):
            for number, table in enumerate(tables):
                console.print(*([""] if number else []), table, sep="\n")
            return
    for row in rows:
        pairs(console, row)
        console.print()


def _table(rows: Sequence[Mapping[str, str]], console: Console) -> Table:
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, show_edge=False)
    for column, label in enumerate(rows[0]):
        table.add_column(label, no_wrap=True, justify="right" if column else "left")
    for row in rows:
        table.add_row(*row.values())
    return table


def _width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update(width=UNWRAPPED)).maximum
