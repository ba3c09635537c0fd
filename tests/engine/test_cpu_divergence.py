"""Clients that diverge under the CPU engine: at the same step as by the definition, and nobody else with them."""

from dataclasses import replace

import pytest
import torch

from fedlps.engine.plan import Job, Learned, Plan, Segment
from tests.engine.agreement import agree, bits
from tests.engine.changes import halve
from tests.engine.drawn_terms import PROBES, Setting, plain
from tests.engine.engines import each_isa, needs_engine

pytestmark = [needs_engine, pytest.mark.usefixtures("poisoned_memory")]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
SETTINGS: dict[torch.dtype, Setting] = {}


@pytest.fixture
def setting(dtype: torch.dtype) -> Setting:
    return SETTINGS.setdefault(dtype, Setting.of(plain, dtype))


def beside_others(setting: Setting, bad: Job, seen: int | None = None) -> None:
    """The job in the middle is flagged after as many samples as by the definition; the others train bit for bit."""
    others = [Job(client, setting.units(0.6), (Segment(0.1),)) for client in (1, 2)]
    plan = Plan((others[0], bad, others[1]), PROBES)
    want = setting.reference.train(setting.start, plan, setting.cohort)
    assert want.diverged.tolist() == [False, True, False]
    assert seen is None or want.seen[1] == seen
    for _ in each_isa():
        got = setting.engine.train(setting.start, plan, setting.cohort)
        agree(got, want, 1e-12 if setting.start.dtype == torch.float64 else 1e-4)
        alone = setting.engine.train(setting.start, Plan((others[1],), PROBES), setting.cohort)
        assert bits(got, 2) == bits(alone, 0)


@DTYPES
@pytest.mark.parametrize("exponent", [0.6, 1.0])
def test_a_huge_learning_rate(setting: Setting, dtype, exponent) -> None:
    """Weight decay makes it sure: units that die can no more save the client."""
    huge = float(torch.finfo(dtype).max) ** exponent
    beside_others(setting, Job(0, setting.units(0.6), (Segment(huge, weight_decay=1.0),)))


@DTYPES
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_start_that_is_not_finite(setting: Setting, dtype, value) -> None:
    """In the output layer, so that it always shows: after the first step."""
    start = setting.start.clone()
    start[-1] = value
    beside_others(setting, Job(0, setting.units(0.6), (Segment(0.1),), start=start), seen=9)


@DTYPES
def test_a_loss_that_is_not_finite_where_everything_else_is(setting: Setting, dtype) -> None:
    """Outputs so far apart that their difference overflows, while softmax, gradients and parameters do not."""
    layer = setting.program.layers[-1]
    start, largest = setting.start.clone(), torch.finfo(dtype).max
    assert layer.bias is not None
    start[layer.bias : layer.bias + 2] = torch.tensor([largest, -largest], dtype=dtype) / 1.5
    beside_others(setting, Job(0, setting.units(0.6), (Segment(0.1),), start=start), seen=9)


@DTYPES
def test_a_start_that_is_not_finite_where_nothing_is_kept(setting: Setting, dtype) -> None:
    """It is no part of the submodel, but the full-width parameters hold it."""
    hold, start = setting.units(0.6), setting.start.clone()
    kept = set(setting.program.layout().entries(hold.units, torch.tensor(hold.counts)).tolist())
    start[min(set(range(len(start))) - kept)] = float("nan")
    plan = Plan((Job(0, hold, (Segment(0.1),), start=start),), PROBES)
    want = setting.reference.train(setting.start, plan, setting.cohort)
    for _ in each_isa():
        agree(setting.engine.train(setting.start, plan, setting.cohort), want)


@DTYPES
def test_redundancies_that_explode(setting: Setting, dtype) -> None:
    d = torch.full((setting.program.units,), 0.5, dtype=dtype)
    learned = Learned(d, float(torch.finfo(dtype).max) / 4, 0.0, "sum")
    beside_others(setting, Job(0, replace(setting.units(0.6), units=learned), (Segment(0.5),)))


@DTYPES
def test_what_stands_behind_the_divergence_is_not_done(setting: Setting, dtype) -> None:
    """No further segment, no change of the weights."""
    huge = float(torch.finfo(dtype).max) ** 0.6
    called = []

    def note(weights, mask, gradient):
        called.append(weights)
        return halve(weights, mask, gradient)

    segments = (Segment(0.1, steps=1), Segment(huge, weight_decay=1.0, steps=3, after=note), Segment(0.1, after=note))
    beside_others(setting, Job(0, setting.units(0.6), segments), seen=9 + 9 + 4)
    assert called == []
