"""The command line. Commands import what they need when they run, so that help needs no torch."""

import contextlib
import io
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from fedlps import __version__
from fedlps.errors import InputError

INTERRUPTED = 128 + signal.SIGINT
OK, FAILED, WRONG_INPUT = 0, 1, 2

app = typer.Typer(
    name="fedlps",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Federated learning in which every client trains its own structured-sparse submodel.",
    epilog="Begin with: fedlps run",
)
data_app = typer.Typer(help="Data sets: which are here, downloading and checking them.", rich_markup_mode=None)
app.add_typer(data_app, name="data")
reproduce_app = typer.Typer(help="Make the tables of the documentation anew.", rich_markup_mode=None)
app.add_typer(reproduce_app, name="reproduce")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (default: the process's own) and return the exit code.

    0: done. 1: the run failed (all clients diverged, no memory, the disk is full). 2: bad input. 130, 143: stopped by
    SIGINT or SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that the terminal's encoding lacks is no reason to stop
    try:
        return get_command(app).main(given, prog_name="fedlps", standalone_mode=False) or OK
    except InputError as error:
        return _refuse(str(error), WRONG_INPUT)
    except typer.Abort:
        return _refuse("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # the reader has gone: what the interpreter flushes at the end must not complain about it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except MemoryError:
        return _refuse("there is not enough memory", FAILED)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{place}{error.strerror or error}", FAILED)
    except Exception as error:
        # usage errors have one class in new typer and another, click's, in old; both can say themselves
        if not hasattr(error, "format_message"):
            raise
        return _refuse(_usage(error), WRONG_INPUT)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fedlps {__version__}")
        raise typer.Exit


@app.callback()
def _fedlps(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """The command line itself."""


RUN_HELP = """Run a simulation, or go on with one.

PRESET is one of those that `fedlps presets` lists, by default digits. KEY=VALUE replaces one of its values;
`fedlps run --explain` lists all keys.

\b
Examples:
  fedlps run
  fedlps run mnist --method fedavg seed=1 --out runs/first
  fedlps run digits ratio.rule=0.5 capability.levels=high
  fedlps run --resume --out runs/first

The files of the run go to DIR, by default runs/PRESET-METHOD-seedN. Ctrl-C and SIGTERM stop it with a checkpoint.
"""


@app.command("run", help=RUN_HELP)
def run_(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="PRESET|KEY=VALUE", help="What to run.", show_default=False)
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", metavar="M", help="Method, by default fedlps (see: fedlps methods).")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Directory of the run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in DIR.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in DIR.")] = False,
    device: Annotated[
        str | None, typer.Option("--device", metavar="auto|cpu|cuda", help="The same as device=...")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="List every key and run nothing.")] = False,
) -> int:
    from fedlps.report import choices
    from fedlps.report.console import console, entry
    from fedlps.run.directory import check_directory, check_same
    from fedlps.run.resolve import parse_overrides, read_preset

    words = list(arguments or ())
    preset = words.pop(0) if words and "=" not in words[0] else None
    chosen = "digits" if preset is None else preset
    recipe = "fedlps" if method is None else method
    overrides = words + ([f"device={device}"] if device is not None else [])
    # what needs no torch is checked before the seconds that importing it takes
    read_preset(chosen)
    parse_overrides(overrides)
    if explain:
        for heading, lines in choices.keys(chosen, recipe, overrides):
            entry(console(), heading, lines)
        return OK
    check_directory(out, resume=resume, overwrite=overwrite)
    if resume and out is not None:
        check_same(out, preset, method)
    return _play(chosen, recipe, out, overrides, resume, overwrite)


def _play(preset: str, method: str, out: Path | None, overrides: list[str], resume: bool, overwrite: bool) -> int:
    from fedlps.launch import prepare
    from fedlps.report.console import console
    from fedlps.report.running import watch
    from fedlps.simulation import DivergedError

    command = shlex.join(["fedlps", *sys.argv[1:]])
    with prepare(
        preset, method=method, out=out, overrides=overrides, resume=resume, overwrite=overwrite, command=command
    ) as session:
        try:
            run = watch(session, console(), resumed=resume)
        except DivergedError as error:
            return _refuse(str(error), FAILED)
    if run.stopped_by is None:
        return OK
    again = shlex.join(["fedlps", "run", "--resume", "--out", str(run.directory)])
    typer.echo(f"stopped after round {len(run.metrics['round'])}; to go on: {again}", err=True)
    return 128 + run.stopped_by


@app.command("methods")
def methods(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="All about this one.", show_default=False)] = None,
) -> None:
    """List the methods, or everything about one."""
    from fedlps.report import choices
    from fedlps.report.console import console, entry

    for heading, lines in choices.methods() if name is None else choices.method(name):
        entry(console(), heading, lines)


@app.command("presets")
def presets() -> None:
    """List the presets and their main values."""
    from fedlps.report import choices
    from fedlps.report.console import console, entry

    for heading, lines in choices.listed_presets():
        entry(console(), heading, lines)


@app.command("doctor")
def doctor() -> int:
    """Say what is used here, and why nothing faster.

    Exit code 0 if a run works here, else 1."""
    from fedlps.report.console import console, finding
    from fedlps.report.doctor import findings

    screen, sound = console(), True
    for subject, text, broken in findings():
        finding(screen, subject, text, broken)
        sound = sound and not broken
    finding(screen, "result", "a run works here" if sound else "something is broken, see above", not sound)
    return OK if sound else FAILED


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


@reproduce_app.command("methods")
def reproduce_methods(
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


@data_app.callback(invoke_without_command=True)
def data(context: typer.Context) -> None:
    """Data sets: which are here, downloading and checking them."""
    from fedlps.report.console import console, finding
    from fedlps.report.doctor import data_sets

    if context.invoked_subcommand is None:
        for found in data_sets():
            finding(console(), *found)


@data_app.command("get")
def data_get(
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


@data_app.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Directory of a data set, or one of its files.")],
) -> None:
    """Read a data set's files through and say what they hold and whether they are the published ones."""
    from fedlps.data import check
    from fedlps.report.console import console, say

    for line in check(path):
        say(console(), line)


def _refuse(message: str, code: int) -> int:
    """One line on standard error."""
    with contextlib.suppress(OSError):
        print(f"fedlps: {' '.join(message.split())}", file=sys.stderr)
    return code


def _usage(error: Any) -> str:
    """What is wrong with a command line, what may have been meant, where help is."""
    message = getattr(error, "message", "") or error.format_message()
    if possible := getattr(error, "possibilities", None):
        message = f"{message}, did you mean {' or '.join(possible)}?"
    context = getattr(error, "ctx", None)
    return f"{message} (help: {context.command_path} --help)" if context else message
