"""The program of a case's model."""

from collections.abc import Mapping
from typing import Any

from fedlps.models import chain
from fedlps.program import Program
from fedlps.trace import derive


def program_of(model: Mapping[str, Any]) -> Program:
    """model: `input`, the shape of a sample, and `steps`, as the golden README lists them."""
    shape = tuple(model["input"])
    return derive(chain(shape, model["steps"]), shape)
