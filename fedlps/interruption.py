"""Ctrl-C and SIGTERM end a run with a checkpoint: a request that is honoured where nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedTraining(BaseException):
    """Raised inside `Interruption.allowed` when a signal comes.

    No Exception, so that nothing on the way swallows it.
    """


class Interruption:
    """While entered, notes the first signal; a second one does what it would do if nothing were here.

    signal: the number of the first signal, or None. Outside the main thread, where signals cannot be caught, it never
    comes.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._immediate = False
        self._former: dict[int, Any] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals; the former handlers come back at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            self._restore()

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """A stretch whose work may be thrown away: a signal ends it at once with InterruptedTraining."""
        self._immediate = True
        try:
            if self.signal is not None:
                raise InterruptedTraining
            yield
        finally:
            self._immediate = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            self._restore()
            signal.raise_signal(number)
            return
        self.signal = number
        if self._immediate:
            raise InterruptedTraining

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
