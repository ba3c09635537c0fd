"""Segments, what trains in them, velocities, pulls and several jobs of a client, written out in numpy in float64."""

import numpy
import pytest
import torch

from fedlps.engine.plan import Hold, Job, Plan, Pull, Segment
from fedlps.models import chain
from fedlps.program import initial_parameters
from tests.engine.cases import cohort_of, executor_of, first_units
from tests.engine.test_passes import BATCHES, DATA, HIDDEN, LR, SHAPE, STEPS, agree, by_hand

FIRST = numpy.arange(51) < 30  # entries of the hidden layer
DECAY, MOMENTUM = 0.02, 0.6
OPTIMISER = {"momentum": MOMENTUM, "weight_decay": DECAY}


def setting():
    program, executor = executor_of(chain(SHAPE, STEPS), SHAPE, DATA)
    assert program.size == len(FIRST)
    return executor, torch.from_numpy(initial_parameters(program, 0)), Hold((HIDDEN,), first_units(program, (HIDDEN,)))


def trained(*segments, pulls=()):
    executor, start, hold = setting()
    plan = Plan((Job(0, hold, segments, pulls=pulls),), frozenset({"parameters"}))
    return start.numpy().copy(), executor.train(start, plan, cohort_of(BATCHES)).probes["parameters"][0].numpy()


def stepped(w, velocity, batch, lr=LR, trains=True, more=0.0):
    """One step; more: further terms of the gradient."""
    velocity = numpy.where(trains, MOMENTUM * velocity + by_hand(w, batch)[0] + more + DECAY * w, velocity)
    return numpy.where(trains, w - lr * velocity, w), velocity


@pytest.mark.parametrize("carried", [True, False])
def test_segments_follow_each_other(carried) -> None:
    """Two steps at one rate, three at another; the velocity goes on, or begins at 0."""
    segments = (Segment(LR, steps=2, **OPTIMISER), Segment(0.1, carry_velocity=carried, **OPTIMISER))
    w, got = trained(*segments)
    velocity = numpy.zeros_like(w)
    for step, batch in enumerate(BATCHES):
        if step == 2 and not carried:
            velocity = numpy.zeros_like(w)
        w, velocity = stepped(w, velocity, batch, LR if step < 2 else 0.1)
    agree(got, w)


@pytest.mark.parametrize("carried", [True, False])
def test_one_layer_then_the_other(carried) -> None:
    """What does not train is run but stands still, bit for bit: no gradient, no decay, no velocity."""
    own, rest = torch.from_numpy(~FIRST), torch.from_numpy(FIRST)
    segments = (
        Segment(LR, steps=2, trains=own, **OPTIMISER),
        Segment(LR, steps=2, trains=rest, carry_velocity=carried, **OPTIMISER),
        Segment(LR, trains=own, carry_velocity=carried, **OPTIMISER),
    )
    w, got = trained(*segments)
    start, only = w.copy(), trained(segments[0], Segment(LR, steps=0))[1]
    numpy.testing.assert_array_equal(only[FIRST], start[FIRST])
    assert (only[~FIRST] != start[~FIRST]).all()
    velocity = numpy.zeros_like(w)
    for step, batch in enumerate(BATCHES):
        if step in (2, 4) and not carried:
            velocity = numpy.zeros_like(w)
        w, velocity = stepped(w, velocity, batch, trains=FIRST if step in (2, 3) else ~FIRST)
    agree(got, w)


def test_clip_measures_what_trains() -> None:
    w, got = trained(Segment(LR, clip=0.05, trains=torch.from_numpy(~FIRST)))
    for batch in BATCHES:
        gradient = numpy.where(FIRST, 0, by_hand(w, batch)[0])
        w = w - LR * gradient * min(1, 0.05 / (numpy.sqrt((gradient**2).sum()) + 1e-6))
    agree(got, w)


def test_segments_end_with_the_batches() -> None:
    """A segment that asks for more steps than are left takes those; the ones after it take none."""
    w, got = trained(Segment(LR, steps=3), Segment(0.1, steps=9), Segment(0.5))
    for step, batch in enumerate(BATCHES):
        w = w - (LR if step < 3 else 0.1) * by_hand(w, batch)[0]
    agree(got, w)


def test_pulls() -> None:
    """Two of them, over all that trains, before momentum."""
    references = numpy.random.default_rng(0).normal(size=(2, 51))
    pulls = tuple(Pull(c, torch.from_numpy(one)) for c, one in zip((0.3, 0.7), references, strict=True))
    w, got = trained(Segment(LR, trains=torch.from_numpy(FIRST), **OPTIMISER), pulls=pulls)
    velocity = numpy.zeros_like(w)
    for batch in BATCHES:
        more = 0.3 * (w - references[0]) + 0.7 * (w - references[1])
        w, velocity = stepped(w, velocity, batch, trains=FIRST, more=more)
    agree(got, w)


def test_a_client_has_several_jobs() -> None:
    """Each from its own start over the same batches, in whatever order; none sees the others."""
    executor, start, hold = setting()
    other = start + 0.1
    cohort = cohort_of(BATCHES[:3], BATCHES[3:])
    jobs = (
        Job(1, hold, (Segment(LR),), destination="personal", start=other, pulls=(Pull(0.4, start),)),
        Job(0, hold, (Segment(LR),)),
        Job(1, hold, (Segment(LR),)),
        Job(0, hold, (Segment(0.1),), destination="personal", start=other),
    )
    got = executor.train(start, Plan(jobs, frozenset({"parameters"})), cohort)
    for row, (batches, begin, lr, pulled) in enumerate(
        ((BATCHES[3:], other, LR, 0.4), (BATCHES[:3], start, LR, 0), (BATCHES[3:], start, LR, 0),
         (BATCHES[:3], other, 0.1, 0))
    ):  # fmt: skip
        w = begin.numpy().copy()
        for batch in batches:
            w = w - lr * (by_hand(w, batch)[0] + pulled * (w - start.numpy()))
        agree(got.probes["parameters"][row].numpy(), w)
        assert got.seen[row] == sum(map(len, batches))
