"""importance_step: python -m pytest -s bench/kernels/importance_step.py; on a GPU with -m gpu"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch

from bench.kernels import device as on
from bench.kernels.masters import Masters
from bench.kernels.measure import compare
from bench.kernels.mixes import cohorts, ratios
from bench.kernels.shapes import SHAPES, cohort, vgg11
from fedlps.engine.cuda.launches import Rates
from fedlps_kernels import importance_step
from fedlps_kernels.importance_step import definition


def on_device(cohort: Masters) -> on.Comparison:
    """All units of all clients, without the gates' gradients."""
    moved = 3 * 4 * cohort.kept.numel()
    drawn = [cohort.draw() for _ in range(on.sets(moved, cohort.device))]
    rates = Rates(torch.full((1,), 0.1, device=cohort.device), 0.0, 0.0, 0.0)
    ones = torch.ones(1, cohort.layout.units)
    coefficients = 0.1 * definition.coefficients(ones, cohort.layout.groups, 1.0, "mean").to(cohort.device)

    def ours() -> tuple[list[on.Call], Callable[[], list[torch.Tensor]]]:
        own = [replace(one, redundancy=one.redundancy.clone()) for one in drawn]
        calls: list[on.Call] = [
            partial(cohort.weights.importance_step, one, rates, cohort.samples, cohort.broken) for one in own
        ]
        return calls, lambda: [own[0].redundancy]

    def library(name: str, call: Callable[[torch.Tensor, torch.Tensor], object], captured: bool) -> on.Alternative:
        def make() -> tuple[list[on.Call], Callable[[], list[torch.Tensor]]]:
            own = [one.redundancy.clone() for one in drawn]
            calls: list[on.Call] = [partial(call, d, one.sums) for d, one in zip(own, drawn, strict=True)]
            return calls, lambda: [own[0]]

        return on.Alternative(name, make, captured)

    def lerp(redundancy: torch.Tensor, sums: torch.Tensor) -> None:
        redundancy.lerp_(torch.sigmoid(-sums), coefficients.expand_as(redundancy))

    def each(redundancy: torch.Tensor, sums: torch.Tensor) -> None:
        for d, a in zip(redundancy, sums, strict=True):
            lerp(d[None], a[None])

    alternatives = [
        on.Alternative("ours", ours),
        library("lerp, client by client", each, captured=False),
        library("lerp, all clients", lerp, captured=True),
    ]
    return on.compare("importance_step", alternatives, cohort.device, "fp32", moved_bytes=moved)


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


@pytest.mark.gpu
@pytest.mark.parametrize(("clients", "mix"), cohorts())
def test_vgg11_on_a_gpu(gpu, benchmark, clients, mix):
    found = on_device(Masters(vgg11(), ratios(mix, clients), gpu))
    on.report(benchmark, [found], op="importance_step", clients=clients, mix=mix)
