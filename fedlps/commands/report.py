"""`fedlps table`, `fedlps plot` and `fedlps reproduce`: what came out of runs."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
reproduce_app = typer.Typer(help="Make the tables of the documentation anew.", rich_markup_mode=None)


@app.command("table")
def table(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories of runs.")],
    form: Annotated[
        str | None, typer.Option("--format", metavar="F", help="markdown, csv, json or latex, instead of plain text.")
    ] = None,
) -> None:
    """Compare runs: a row each, and the mean and standard deviation over seeds.

    Runs that are still being written are shown as of their latest checkpoint.

    csv and json hold plain numbers: percent, FLOPs, bytes, seconds.

    Example: fedlps table runs/*
    """
    from fedlps.report.console import console, grid, tell
    from fedlps.report.export import Form, export
    from fedlps.report.table import HALVES, LEGEND, rows
    from fedlps.run.values import one_of

    chosen = None if form is None else one_of("--format", form, Form)
    found = rows(directories)
    if chosen is not None:
        typer.echo(export(found, chosen))
        return
    screen = console()
    grid(screen, [row.cells() for row in found], HALVES)
    tell(screen, LEGEND)


@app.command("plot")
def plot_(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories of runs of one preset.")],
    picture: Annotated[
        list[str] | None, typer.Option("--picture", metavar="P", help="accuracy, pattern or ratios; repeatable.")
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", metavar="F", help="png, svg or pdf; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the pictures go.")] = Path("plots"),
) -> None:
    """Draw runs: accuracy against rounds, FLOPs and time; what clients keep; what the bandits chose.

    Runs that differ only in their seed become one line, their mean, with a band of one standard deviation. Runs that
    are still being written are drawn as of their latest checkpoint.

    \b
    Examples:
      fedlps plot runs/*
      fedlps plot runs/mnist-* --picture accuracy --format pdf --out figures
    """
    from fedlps.report.console import console, say
    from fedlps.report.plot import Format, Picture, plot
    from fedlps.run.values import one_of

    pictures = [one_of("--picture", word, Picture) for word in picture or ()]
    kinds = [one_of("--format", word, Format) for word in formats or ()]
    for line in plot(directories, out, pictures, kinds or (Format.PNG,)):
        say(console(), line)


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
