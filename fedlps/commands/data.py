"""`fedlps data`: which data sets are here, downloading, checking and packing them."""

from pathlib import Path
from typing import Annotated

import typer

from fedlps.commands.words import completed

app = typer.Typer(help="Data sets: which are here, downloading, checking and packing them.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def data(context: typer.Context) -> None:
    """Data sets: which are here, downloading, checking and packing them."""
    from fedlps.report.console import console, finding
    from fedlps.report.doctor import data_sets

    if context.invoked_subcommand is None:
        for found in data_sets():
            finding(console(), *found)


@app.command("get")
def get_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Data set (see: fedlps data).")],
    mirror: Annotated[
        list[str] | None,
        typer.Option("--mirror", metavar="URL", help="Directory to load from, instead of the usual ones; repeatable."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Where to, instead of where a run looks for it.")
    ] = None,
) -> None:
    """Download a data set. What broke off is gone on with; every file's checksum is checked.

    \b
    Examples:
      fedlps data get mnist
      fedlps data get mnist --mirror http://localhost:8000/mnist --to data/mnist
    """
    from fedlps.data import get
    from fedlps.report.console import console, say
    from fedlps.report.progress import downloads

    screen = console()
    with downloads(screen) as progress:
        place = get(name, mirror or None, to, progress)
    say(screen, f"{name} is in {place}")


@app.command("check")
def check_(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Directory of a data set, a pack, or an idx file.")],
) -> None:
    """Read a data set's files through and say what they hold and whether they are the published ones."""
    from fedlps.data import check
    from fedlps.report.console import console, say
    from fedlps.report.progress import decoding

    screen = console()
    with decoding(screen) as progress:
        lines = check(path, progress)
    for line in lines:
        say(screen, line)


@app.command("pack")
def pack_(
    preset: Annotated[
        str, typer.Argument(metavar="PRESET", help="Whose split the images are for.", autocompletion=completed)
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to make.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="As for the run.", show_default=False)
    ] = None,
) -> None:
    """Write just the images that a preset's split uses to one small file, without loss.

    A run with the same seed, clients, data.* and split.* reads it with data.root=FILE and gives the same results.

    \b
    Example:
      fedlps data pack cifar10 seed=1 --out cifar10-1.pack
      fedlps run cifar10 seed=1 data.root=cifar10-1.pack
    """
    from fedlps.report.console import console, say
    from fedlps.report.progress import decoding
    from fedlps.samples import write_pack

    screen = console()
    with decoding(screen) as progress:
        line = write_pack(preset, overrides or (), out, progress)
    say(screen, line)
