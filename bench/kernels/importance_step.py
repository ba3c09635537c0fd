"""importance_step: python -m pytest -s bench/kernels/importance_step.py"""

import pytest
import torch

from bench.kernels.measure import compare
from bench.kernels.shapes import SHAPES, cohort
from fedlps_kernels import importance_step
from fedlps_kernels.importance_step import definition


@pytest.mark.parametrize("shape", SHAPES)
def test_importance_step(benchmark, shape):
    case = cohort(shape)
    redundancy, sums, gradient = (case.values(*case.kept.shape).abs() for _ in range(3))
    step = {"lr": 0.1, "lam": 1.0, "kappa": 0.5}
    coefficients = definition.coefficients(redundancy, case.layout.groups, 1.0, "mean")

    def by_lerp() -> torch.Tensor:
        """The coefficients made beforehand, fewer passes over memory."""
        return torch.lerp(redundancy, torch.sigmoid(-sums), 0.1 * coefficients).add_(gradient, alpha=0.05)

    arguments = redundancy, sums, gradient, case.layout.groups
    alternatives = {
        "op": lambda: importance_step(*arguments, **step),
        "lerp": by_lerp,
        "definition": lambda: definition.importance_step(*arguments, **step),
    }
    for call in alternatives.values():
        torch.testing.assert_close(call(), alternatives["definition"]())
    compare(benchmark, alternatives, moved_bytes=4 * 4 * redundancy.numel())
