"""Clients that diverge under the CUDA engine's control flow: at the same step as by the definition, and alone."""

from dataclasses import replace

import pytest
import torch

from fedlps.engine.plan import Job, Learned, Plan, Segment
from tests.engine.agreement import agree, bits
from tests.engine.drawn_terms import Setting, plain
from tests.engine.on_cuda import PROBES, TOLERANCE, beside

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


@pytest.fixture
def setting(dtype: torch.dtype) -> Setting:
    return beside(Setting.of(plain, dtype))


def beside_others(setting: Setting, bad: Job, seen: int | None = None) -> None:
    """The job in the middle is flagged after as many samples as by the definition; the others train bit for bit."""
    others = [Job(client, setting.units(0.6), (Segment(0.1),)) for client in (1, 2)]
    plan = Plan((others[0], bad, others[1]), PROBES)
    want = setting.reference.train(setting.start, plan, setting.cohort)
    assert want.diverged.tolist() == [False, True, False]
    assert seen is None or want.seen[1] == seen
    got = setting.engine.train(setting.start, plan, setting.cohort)
    agree(got, want, TOLERANCE if setting.start.dtype == torch.float64 else 1e-4)
    engine = beside(setting, batch=9).engine
    alone = engine.train(setting.start, Plan((others[1],), PROBES), setting.cohort)
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
    """In the output layer, so that it always shows: after the first step, not before."""
    start = setting.start.clone()
    start[-1] = value
    beside_others(setting, Job(0, setting.units(0.6), (Segment(0.1),), start=start), seen=9)


@DTYPES
def test_a_start_that_is_not_finite_where_nothing_is_kept(setting: Setting, dtype) -> None:
    """It is no part of the submodel, but the full-width parameters hold it."""
    hold, start = setting.units(0.6), setting.start.clone()
    kept = set(setting.program.layout().entries(hold.units, torch.tensor(hold.counts)).tolist())
    start[min(set(range(len(start))) - kept)] = float("nan")
    beside_others(setting, Job(0, hold, (Segment(0.1),), start=start), seen=9)


@DTYPES
def test_a_start_that_is_not_finite_and_no_step(setting: Setting, dtype) -> None:
    start = setting.start.clone()
    start[-1] = float("nan")
    plan = Plan((Job(0, setting.units(0.6), (Segment(0.1, steps=0),), start=start),))
    assert setting.engine.train(setting.start, plan, setting.cohort).diverged.tolist() == [False]
    assert setting.reference.train(setting.start, plan, setting.cohort).diverged.tolist() == [False]


@DTYPES
def test_a_loss_that_is_not_finite_where_everything_else_is(setting: Setting, dtype) -> None:
    """Outputs so far apart that their difference overflows, while softmax, gradients and parameters do not."""
    layer = setting.program.layers[-1]
    start, largest = setting.start.clone(), torch.finfo(dtype).max
    start[layer.bias : layer.bias + 2] = torch.tensor([largest, -largest], dtype=dtype) / 1.5
    beside_others(setting, Job(0, setting.units(0.6), (Segment(0.1),), start=start), seen=9)


@DTYPES
def test_redundancies_that_explode(setting: Setting, dtype) -> None:
    d = torch.full((setting.program.units,), 0.5, dtype=dtype)
    learned = Learned(d, float(torch.finfo(dtype).max) / 4, 0.0, "sum")
    beside_others(setting, Job(0, replace(setting.units(0.6), units=learned), (Segment(0.5),)))


@DTYPES
def test_what_a_diverged_client_holds_stays(setting: Setting, dtype) -> None:
    """Steps behind the divergence write nothing: neither masters nor selection nor redundancies."""
    huge = float(torch.finfo(dtype).max) ** 0.6
    d = 0.3 + 0.001 * torch.arange(setting.program.units, dtype=dtype)
    hold = replace(setting.units(0.6), units=Learned(d, 1.0, 0.0, "sum"))
    left = []
    for steps in (None, 3):  # of seven
        job = Job(0, hold, (Segment(huge, weight_decay=1.0, steps=steps),))
        got = setting.engine.train(setting.start, Plan((job,), PROBES), setting.cohort)
        assert got.diverged.tolist() == [True]
        assert len(got.probes["losses"][0]) < 3
        told = bits(got, 0)
        left.append([told[name] for name in ("probe parameters", "kept", "redundancy", "probe kept", "hits", "seen")])
    assert left[0] == left[1]
