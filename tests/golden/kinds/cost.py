"""Operations, bytes and seconds of one local round."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy

from fedlps.cost import Rates, Work, local_cost, relative_cost
from tests.golden.compare import close, exact
from tests.golden.model import program_of
from tests.golden.options import DOUBLE, Options


def run(case: Mapping[str, Any], arrays: Mapping[str, numpy.ndarray], options: Options) -> list[str]:
    """Cost of the case's round with its pattern sent; counts exactly, seconds to float64 tolerance."""
    program = program_of(case["model"])
    work = Work(case["samples"], case["batch"], case["epochs"])
    round_of = (program, program.counts(case["ratio"]), work, case["capability"], Rates())
    got = asdict(local_cost(*round_of)) | {"relative": relative_cost(*round_of)}
    mismatches = exact("want", sorted(got), sorted(case["want"]))
    for name, value in case["want"].items():
        compared = exact(name, got[name], value) if isinstance(value, int) else close(name, got[name], value, DOUBLE)
        mismatches += compared
    return mismatches
