"""3x3 windows on maps of even sides, which the CPU engine transforms tile by tile, against the definition."""

import itertools
import math

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedlps.engine.cohort import Cohort
from fedlps.engine.plan import Hold, Job, Learned, Plan, Probe, Pull, Segment
from fedlps.engine.result import Executor, whole
from tests.engine.agreement import agree, agree_on_evaluation
from tests.engine.cases import cohort_of, samples
from tests.engine.drawn_jobs import drawn_cohort, drawn_jobs, random_units, start_of
from tests.engine.engines import both, each_isa, needs_engine

pytestmark = [needs_engine, pytest.mark.usefixtures("poisoned_memory")]
PROBES: frozenset[Probe] = frozenset({"kept", "losses", "parameters", "gradients"})
SEEDS, BATCHES = st.integers(0, 2**32), st.sampled_from([1, 5, 20, 32])
SIDES, UNITS = st.sampled_from([2, 4, 6, 8, 12]), st.sampled_from([1, 3, 25, 32, 33, 49])
COUNT, CLASSES = 45, 3  # samples
Shape = tuple[int, ...]
Model = tuple[nn.Sequential, Shape]
Step = tuple[Executor, Executor, torch.Tensor, Plan, Cohort]


@st.composite
def even_chains(draw: st.DrawFn, decisions: bool = True) -> Model:
    """One to three convolutions and what may stand between; without decisions no norm, no ReLU and no maximum."""
    shape: Shape = (draw(UNITS), draw(SIDES), draw(SIDES))
    current = shape
    modules: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 3))):
        units = draw(UNITS)
        modules.append(nn.Conv2d(current[0], units, 3, padding=1, bias=draw(st.booleans())))
        current = (units, *current[1:])
        if decisions and draw(st.booleans()):
            modules.append(nn.BatchNorm2d(units, track_running_stats=False))
        modules += [nn.ReLU()] * (decisions and draw(st.booleans()))
        if draw(st.booleans()):
            modules.append(draw(st.sampled_from([nn.AvgPool2d, nn.MaxPool2d][: 1 + decisions]))(2))
            current = (units, *(side // 2 for side in current[1:]))
            if min(current) < 2 or max(side % 2 for side in current[1:]):
                break
    return nn.Sequential(*modules, nn.Flatten(), nn.Linear(math.prod(current), CLASSES)), shape


def one_step(model: Model, seed: int, size: int, ratio: float, dtype: torch.dtype = torch.float64) -> Step:
    """Engine, reference, parameters, and one step of one client on so many samples."""
    module, shape = model
    program, engine, reference = both(module, shape, samples(shape, CLASSES, COUNT, seed % 1000), dtype)
    counts, rng = program.counts(ratio), numpy.random.default_rng(seed)
    plan = Plan((Job(0, Hold(counts, random_units(program, counts, rng)), (Segment(0.1),)),), PROBES)
    batch = rng.permutation(COUNT)[:size].tolist()
    return engine, reference, 2 * start_of(program, seed, dtype), plan, cohort_of([batch])


@given(model=even_chains(), seed=SEEDS, size=BATCHES, ratio=st.sampled_from([1, 0.5]))
def test_gradients_agree(model: Model, seed: int, size: int, ratio: float) -> None:
    engine, reference, start, plan, cohort = one_step(model, seed, size, ratio)
    want = reference.train(start, plan, cohort)
    for _ in each_isa():
        agree(engine.train(start, plan, cohort), want)


@pytest.mark.parametrize("side", [2, 4, 6, 8])
def test_gradients_agree_for_more_channels_than_a_block_holds(side: int) -> None:
    module = nn.Sequential(
        nn.Conv2d(51, 153, 3, padding=1),
        nn.Conv2d(153, 70, 3, padding=1),
        nn.Flatten(),
        nn.Linear(70 * side**2, CLASSES),
    )
    engine, reference, start, plan, cohort = one_step((module, (51, side, side)), side, 20, 1)
    want = reference.train(start, plan, cohort)
    for _ in each_isa():
        agree(engine.train(start, plan, cohort), want)


@given(model=even_chains(decisions=False), seed=SEEDS, size=BATCHES)
def test_gradients_in_single_precision_agree_layer_by_layer(model: Model, seed: int, size: int) -> None:
    """Where no decision can flip: each layer's weight gradient, relative to its norm, against float64."""
    _, reference, start, plan, cohort = one_step(model, seed, size, 1)
    engine = one_step(model, seed, size, 1, torch.float32)[0]
    [want] = reference.train(start.float().double(), plan, cohort).probes["gradients"]
    sizes = [parameter.numel() for parameter in model[0].parameters()]
    for isa in each_isa():
        [got] = engine.train(start.float(), plan, cohort).probes["gradients"]
        for layer, (own, wanted) in enumerate(zip(got.split(sizes), want.split(sizes), strict=True)):
            error = float((own.double() - wanted).norm() / wanted.norm())
            assert error <= 1e-5, f"{isa}: parameters {layer} off by {error:.3g}"


@given(model=even_chains(), seed=SEEDS)
def test_evaluations_agree(model: Model, seed: int) -> None:
    """In batches of 32 and what is left."""
    module, shape = model
    program, engine, reference = both(module, shape, samples(shape, CLASSES, COUNT, seed % 1000))
    models, own = whole(program, 3 * start_of(program, seed)), [numpy.arange(COUNT)]
    want = reference.evaluate(models, own, "test")
    for _ in each_isa():
        agree_on_evaluation(engine.evaluate(models, own, "test"), want)


@given(model=even_chains(), seed=SEEDS, learned=st.booleans())
def test_rounds_agree(model: Model, seed: int, learned: bool) -> None:
    """Clients of unequal width, whose convolutions go other ways."""
    module, shape = model
    program, engine, reference = both(module, shape, samples(shape, CLASSES, COUNT, seed % 1000))
    start, rng = start_of(program, seed), numpy.random.default_rng(seed)
    plan, cohort = Plan(drawn_jobs(program, 2, start, rng, learned=learned), PROBES), drawn_cohort(2, COUNT, rng)
    want = reference.train(start, plan, cohort)
    for _ in each_isa():
        agree(engine.train(start, plan, cohort), want)


@pytest.mark.parametrize("side", [2, 4, 6, 8])
@pytest.mark.parametrize("pulled", [True, False])
def test_steps_taken_where_gradients_are_made(side: int, pulled: bool) -> None:
    """Nobody asks for the gradients, so they are never stored. The selection changes with the sums of the weights."""
    shape = (26, side, side)
    module = nn.Sequential(
        *(nn.Conv2d(26, 75, 3, padding=1), nn.BatchNorm2d(75, track_running_stats=False), nn.ReLU()),
        *(nn.Conv2d(75, 33, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.Flatten()),
        nn.Linear(33 * (side // 2) ** 2, CLASSES),
    )
    program, engine, reference = both(module, shape, samples(shape, CLASSES, COUNT, side))
    start, rng = start_of(program, side), numpy.random.default_rng(side)
    redundancy = torch.from_numpy(0.3 + 1e-4 * rng.normal(size=program.units))
    learned = Learned(redundancy, 0.5, 0.0, "sum")
    pulls = (Pull(0.3, start + 0.1),) if pulled else ()
    jobs = [Job(0, Hold(program.counts(ratio), learned), (Segment(0.1, 0, 0.01),), pulls=pulls) for ratio in (0.9, 1)]
    plan, cohort = (
        Plan(tuple(jobs), PROBES - {"gradients"}),
        cohort_of([rng.permutation(COUNT)[:20].tolist() for _ in range(4)]),
    )
    want = reference.train(start, plan, cohort)
    kept = want.probes["kept"][0]
    assert any(not torch.equal(one, other) for one, other in itertools.pairwise(kept))
    for _ in each_isa():
        agree(engine.train(start, plan, cohort), want, 1e-11)


def test_the_same_step_twice_gives_the_same_bits() -> None:
    module = nn.Sequential(nn.Conv2d(5, 20, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(20 * 64, CLASSES))
    engine, _, start, plan, cohort = one_step((module, (5, 8, 8)), 1, 20, 1, torch.float32)
    for isa in each_isa():
        first, second = (engine.train(start, plan, cohort).submodels.parameters for _ in range(2))
        assert torch.equal(first, second), isa
