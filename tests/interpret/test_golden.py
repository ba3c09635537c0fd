"""Golden rounds through Triton's kernels: those small enough for the interpreter."""

from pathlib import Path

import pytest

from tests.golden.options import Options
from tests.golden.runner import run_case

DATA = Path(__file__).parents[1] / "golden/data"
SMALL = ("mlp", "momentum_returns", "norm", "norm_kappa", "one_sample", "one_unit", "strided")


@pytest.mark.parametrize("name", SMALL)
def test_case(name: str) -> None:
    outcome = run_case(DATA / f"round_{name}.json", Options("cuda", "float32"))
    assert outcome.status == "ok", str(outcome)
