"""`--tensorboard`: the metrics of a run's rounds as scalars, in event files beside the run's own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isnan
from typing import Any

from fedlps.errors import InputError
from fedlps.launch import Session
from fedlps.run.directory import EVENTS, remove_events
from fedlps.run.store import RunStore
from fedlps.simulation import RoundCallback


def summary_writer() -> Any:
    """torch's SummaryWriter. InputError, with what to do, if the package it needs is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        reason = "the package tensorboard is not installed: pip install 'fedlps[tensorboard]'"
        raise InputError(f"--tensorboard: {reason}") from None
    return SummaryWriter


@contextmanager
def scalars(session: Session) -> Iterator[RoundCallback]:
    """What is to be told of every round (`Session.play`); the rounds that are done are written first.

    Event files that are there are replaced: the rounds that a resumed run plays again must not stand in them twice.
    """
    remove_events(session.directory)
    with summary_writer()(str(session.directory / EVENTS)) as writer:

        def write(number: int, metrics: Mapping[str, float]) -> None:
            for name, value in metrics.items():
                if not isnan(value):
                    writer.add_scalar(name, value, number)

        for number, metrics in _done(session):
            write(number, metrics)
        yield write


def _done(session: Session) -> Iterator[tuple[int, Mapping[str, float]]]:
    """The rounds that are stored, by number."""
    with RunStore.read(session.directory) as store:
        metrics = store.metrics()
    for row, number in enumerate(metrics.pop("round").tolist()):
        yield number, {name: float(column[row]) for name, column in metrics.items()}
