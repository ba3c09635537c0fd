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

from fedlps import __version__, commands
from fedlps.commands import FAILED, OK, WRONG_INPUT
from fedlps.errors import InputError

INTERRUPTED = 128 + signal.SIGINT

app = typer.Typer(
    name="fedlps",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Federated learning in which every client trains its own structured-sparse submodel.",
    epilog="Begin with: fedlps run",
)
app.add_typer(commands.data.app, name="data")
app.add_typer(commands.report.app)
app.add_typer(commands.report.reproduce_app, name="reproduce")


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
        list[str] | None,
        typer.Argument(
            metavar="PRESET|KEY=VALUE", help="What to run.", show_default=False, autocompletion=commands.completed
        ),
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
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write the rounds' metrics for TensorBoard, too, to DIR/tensorboard.")
    ] = False,
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
    return _play(chosen, recipe, out, overrides, resume, overwrite, tensorboard)


def _play(
    preset: str, method: str, out: Path | None, overrides: list[str], resume: bool, overwrite: bool, tensorboard: bool
) -> int:
    from fedlps.launch import prepare
    from fedlps.report.console import console
    from fedlps.report.progress import decoding
    from fedlps.report.running import watch
    from fedlps.report.tensorboard import summary_writer
    from fedlps.simulation import DivergedError

    if tensorboard:
        summary_writer()  # refused before anything is created
    command = shlex.join(["fedlps", *sys.argv[1:]])
    screen = console()
    with decoding(screen) as progress:
        session = prepare(
            preset, method=method, out=out, overrides=overrides, resume=resume, overwrite=overwrite, command=command,
            progress=progress,
        )  # fmt: skip
    with session:
        try:
            run = watch(session, screen, resumed=resume, tensorboard=tensorboard)
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
