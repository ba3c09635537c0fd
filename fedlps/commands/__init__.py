"""Groups of commands, each with what it takes and what it does; `fedlps.cli` puts them together."""

from fedlps.commands import data, report
from fedlps.commands.codes import FAILED, OK, WRONG_INPUT
from fedlps.commands.words import completed

__all__ = ["FAILED", "OK", "WRONG_INPUT", "completed", "data", "report"]
