"""The golden cases on a GPU; tests/golden runs them through the same executor with definitions on a CPU."""

from pathlib import Path

import pytest

from tests.golden.options import TOLERANCES, Options
from tests.golden.runner import run_case
from tests.golden.test_golden import CASES

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(gpu: str, path: Path, dtype: str) -> None:
    options = Options("cuda", dtype)
    assert options.device == gpu
    outcome = run_case(path, options)
    assert outcome.status == "ok", str(outcome)
