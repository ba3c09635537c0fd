"""A run as its user sees it: what runs where, how far it is, what came out."""

from collections.abc import Mapping
from contextlib import nullcontext

from rich.console import Console

from fedlps.launch import Run, Session
from fedlps.report.console import grid, pairs, say, tell
from fedlps.report.progress import rounds
from fedlps.report.table import figures, reached, spent
from fedlps.report.tensorboard import scalars
from fedlps.run.config import Config


def watch(session: Session, console: Console, *, resumed: bool, tensorboard: bool) -> Run:
    """Play a session's rounds and show them; at the end its figures, unless it was stopped.

    tensorboard: also write them for it (`fedlps.report.tensorboard.scalars`).
    Raises what `Session.play` raises.
    """
    config = session.config
    say(console, str(session.directory), "bold")
    tell(console, _what(config))
    if resumed:
        say(console, f"{session.rounds_done} of {config.rounds} rounds are done")
    for note in session.notes:
        tell(console, note)
    written = scalars(session) if tensorboard else nullcontext(lambda number, metrics: None)
    with written as write, rounds(console, session.rounds_done, config.rounds) as shown:

        def tell_both(number: int, metrics: Mapping[str, float]) -> None:
            shown.round(number, metrics)
            write(number, metrics)

        run = session.play(tell_both)
    if run.stopped_by is None:
        values = figures(run.metrics)
        console.print()
        grid(console, reached(values))
        console.print()
        pairs(console, spent(values) | {"files": str(run.directory)})
    return run


def _what(config: Config) -> str:
    return (
        f"{config.method.name} on {config.data.name} with {config.model.name}: {config.rounds} rounds, "
        f"{config.clients} clients, {config.fraction:g} of them per round, seed {config.seed}"
    )
