"""`fedlps table`, `fedlps plot` and `fedlps reproduce`: what came out of runs."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
reproduce_app = typer.Typer(help="Make the tables of the documentation anew.", rich_markup_mode=None)


@app.command("table")
def table(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories of runs.")],
) -> None:
    """Compare runs: a row each, and the mean over seeds.

    Runs that are still being written are shown as of their latest checkpoint.

    Example: fedlps table runs/*
    """
    from fedlps.report.console import console, grid, tell
    from fedlps.report.table import HALVES, LEGEND, rows

    screen = console()
    grid(screen, [row.cells() for row in rows(directories)], HALVES)
    tell(screen, LEGEND)


@reproduce_app.callback()
def reproduce_() -> None:
    """Make the tables of the documentation anew."""


@reproduce_app.command("methods")
def methods(
    words: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="For all.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="By default runs/reproduce-PRESET.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", metavar="M", help="Only this; repeatable.")] = None,
) -> int:
    """Run every method and compare them; data=PRESET chooses the preset, by default digits.

    What has finished in DIR is reused, what broke off goes on. The table is in DIR/methods.md, too.

    Example: fedlps reproduce methods data=mnist rounds=20
    """
    from fedlps.report.console import console
    from fedlps.report.reproduce import reproduce

    return reproduce(console(), words or (), method or (), out)
