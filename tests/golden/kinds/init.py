"""The parameters before the first round."""

from collections.abc import Mapping
from typing import Any

import numpy

from fedlps.program import initial_parameters
from tests.golden.compare import close
from tests.golden.model import program_of
from tests.golden.options import Options


def run(case: Mapping[str, Any], arrays: Mapping[str, numpy.ndarray], options: Options) -> list[str]:
    """The draws are made in float64, then cast."""
    got = initial_parameters(program_of(case["model"]), case["seed"])
    return close("params", got.astype(options.dtype), arrays["params"].astype(options.dtype), options.tolerance)
