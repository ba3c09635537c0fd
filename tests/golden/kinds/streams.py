"""Draws of every kind from named streams."""

from collections.abc import Mapping
from typing import Any

import numpy

from fedlps.stream_check import draws
from tests.golden.compare import close, exact
from tests.golden.options import DOUBLE, Options


def run(case: Mapping[str, Any], arrays: Mapping[str, numpy.ndarray], options: Options) -> list[str]:
    """Integers exactly, floats to float64 tolerance, for each stream of the case."""
    mismatches = []
    for want in case["want"]:
        name = f"stream({want['seed']}, {want['purpose']}, {want['ids']})"
        for key, got in draws(want["seed"], want["purpose"], tuple(want["ids"])).items():
            named = f"{name} {key}"
            integers = got.dtype.kind == "i"
            mismatches += exact(named, got, want[key]) if integers else close(named, got, want[key], DOUBLE)
    return mismatches
