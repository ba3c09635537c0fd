"""The CPU engine against the definition in float64: drawn chains forward, backward and through whole local rounds."""

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedlps.engine.cpu import PIECE
from fedlps.engine.plan import Hold, Job, Learned, Plan, Segment
from fedlps.engine.result import Submodels, whole
from fedlps.models import chain
from fedlps_kernels import gather_weights
from tests.engine.agreement import agree, agree_on_evaluation, close
from tests.engine.cases import cohort_of, first_units, samples
from tests.engine.chains import Shape, chains
from tests.engine.drawn_jobs import drawn_cohort, drawn_jobs, nearly_tied, random_units, start_of
from tests.engine.engines import both, each_isa, needs_engine

pytestmark = [needs_engine, pytest.mark.usefixtures("poisoned_memory")]
SEEDS = st.integers(0, 2**32)
PROBES = frozenset({"kept", "losses", "parameters", "gradients"})
COUNT = 60  # samples


def setting(drawn: tuple[nn.Sequential, Shape], seed: int, dtype: torch.dtype = torch.float64):
    """Program, engine, reference, parameters and a generator."""
    module, shape = drawn
    data = samples(shape, classes_of(drawn), COUNT, seed % 1000)
    program, engine, reference = both(module, shape, data, dtype)
    return program, engine, reference, start_of(program, seed, dtype), numpy.random.default_rng(seed)


def classes_of(drawn: tuple[nn.Sequential, Shape]) -> int:
    module, shape = drawn
    return module(torch.zeros(2, *shape)).shape[1]


def submodels(program, parameters: torch.Tensor, rng: numpy.random.Generator) -> Submodels:
    """Random units of the parameters at three ratios, the whole model among them."""
    counts = [program.counts(ratio) for ratio in (1.0, 0.5, 0.01)]
    kept = torch.stack([random_units(program, own, rng) for own in counts])
    table, layout = torch.tensor(counts, dtype=torch.int32).reshape(3, -1), program.layout()
    capacity = int(layout.compact_sizes(table).max())
    return Submodels(kept, table, gather_weights(parameters[None], kept, table, layout, capacity))


@given(drawn=chains(), seed=SEEDS)
def test_evaluations_agree(drawn, seed) -> None:
    """Full and thin submodels on no, one and many samples, in batches of one, seven and all."""
    program, engine, reference, start, rng = setting(drawn, seed)
    models = submodels(program, 3 * start, rng)
    own = [rng.integers(COUNT, size=size) for size in rng.permutation([0, 1, 45])]
    reference.evaluation_batch = engine.evaluation_batch = int(rng.choice([1, 7, 200]))
    want = reference.evaluate(models, own, "test")
    for _ in each_isa():
        agree_on_evaluation(engine.evaluate(models, own, "test"), want)


def test_a_norm_sees_whole_batches_of_an_evaluation_in_pieces() -> None:
    """Of more samples than one thread's piece, in batches that do not divide it."""
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.ReLU(), nn.Linear(4, 3))
    program, engine, reference, start, rng = setting((module, (3,)), 5)
    own = [rng.integers(COUNT, size=2 * PIECE + 30), rng.integers(COUNT, size=100)]
    models = submodels(program, start, rng)[[0, 1]]
    reference.evaluation_batch = engine.evaluation_batch = 100
    want = reference.evaluate(models, own, "test")
    for _ in each_isa():
        agree_on_evaluation(engine.evaluate(models, own, "test"), want)


@given(drawn=chains(), seed=SEEDS)
def test_evaluations_agree_in_single_precision(drawn, seed) -> None:
    program, engine, reference, start, rng = setting(drawn, seed, torch.float32)
    models, own = submodels(program, start, rng), [numpy.arange(COUNT)] * 3
    want = reference.evaluate(models, own, "test")
    for _ in each_isa():
        close("losses", engine.evaluate(models, own, "test").losses, want.losses, 1e-5)


@given(drawn=chains(), seed=SEEDS, size=st.integers(1, 40))
def test_gradients_agree(drawn, seed, size) -> None:
    """Of all entries, held or not, and of the units' gates, in one step."""
    program, engine, reference, start, rng = setting(drawn, seed)
    counts = program.counts(float(rng.choice([1, 0.5])))
    hold = Hold(counts, nearly_tied(program, rng))
    plan = Plan((Job(0, hold, (Segment(0.1),)),), PROBES)
    cohort = cohort_of([rng.permutation(COUNT)[:size].tolist()])
    want = reference.train(2 * start, plan, cohort)
    assert want.probes["gradients"][0].any() or program.steps[-1].kind == "relu"
    for _ in each_isa():
        agree(engine.train(2 * start, plan, cohort), want)


@given(drawn=chains(norms=False), seed=SEEDS)
def test_of_equal_entries_of_a_window_the_first_is_the_largest(drawn, seed) -> None:
    """Weights and pixels of few values tie in almost every window and are often exactly 0 before a ReLU.

    Their sums are exact, so that every order of summation ties.
    """
    module, shape = drawn
    rng, data = numpy.random.default_rng(seed), samples(shape, classes_of(drawn), COUNT)
    data.inputs[:] = rng.choice([-0.5, 0, 0, 0.5], size=data.inputs.shape)
    program, engine, reference = both(module, shape, data)
    start = torch.from_numpy(rng.choice([-0.25, 0, 0.25], size=program.size))
    hold = Hold(program.counts(1), first_units(program, program.counts(1)))
    plan, cohort = Plan((Job(0, hold, (Segment(0.1),)),), PROBES), cohort_of([list(range(20))])
    want = reference.train(start, plan, cohort)
    for _ in each_isa():
        agree(engine.train(start, plan, cohort), want)


@pytest.mark.parametrize("behind", [["pool", "relu"], ["relu", "pool"], ["pool"], ["relu"]], ids=" ".join)
def test_of_equal_entries_behind_a_norm_the_first_is_the_largest(behind) -> None:
    """Also where it turns the order round, or makes all entries equal: its scale is negative or zero."""
    steps = {"pool": nn.MaxPool2d(2), "relu": nn.ReLU()}
    norm = nn.BatchNorm2d(6, track_running_stats=False)
    module = nn.Sequential(nn.Conv2d(1, 6, 2), norm, *map(steps.get, behind), nn.Flatten(), nn.LazyLinear(4))
    shape, data, rng = (1, 8, 7), samples((1, 8, 7), 4, COUNT), numpy.random.default_rng(1)
    module(torch.zeros(2, *shape))
    data.inputs[:] = rng.choice([-0.5, 0, 0, 0.5], size=data.inputs.shape)
    program, engine, reference = both(module, shape, data)
    start = start_of(program, 3)
    first = program.layers[0]
    start[first.weight : first.weight + 24] = torch.from_numpy(rng.choice([-0.25, 0, 0.25], size=24))
    start[first.scale : first.scale + 6] = torch.tensor([1, 0, -1, 0.3, -2, 0])
    hold = Hold(program.counts(1), first_units(program, program.counts(1)))
    plan, cohort = Plan((Job(0, hold, (Segment(0.1),)),), PROBES), cohort_of([list(range(21))])
    want = reference.train(start, plan, cohort)
    for _ in each_isa():
        agree(engine.train(start, plan, cohort), want)


@pytest.mark.parametrize("head", [[], [nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False), nn.ReLU()]])
def test_a_norm_of_one_value_gives_its_shift(head) -> None:
    """Its variance is 0; whatever stands before learns nothing from it."""
    module = nn.Sequential(*head, nn.LazyLinear(2), nn.BatchNorm1d(2, track_running_stats=False))
    module(torch.zeros(2, 2))
    program, engine, reference, start, _ = setting((module, (2,)), 4)
    hold, last = Hold(program.counts(1), first_units(program, program.counts(1))), program.layers[-1]
    plan, cohort = Plan((Job(0, hold, (Segment(0.1),)),), PROBES), cohort_of([[0]])
    want = reference.train(start, plan, cohort)
    shift = start[last.shift : last.shift + 2]
    loss = -shift.log_softmax(0)[reference.samples.labels[0]]
    for _ in each_isa():
        got = engine.train(start, plan, cohort)
        agree(got, want)
        close("loss", got.losses, loss[None], 1e-15)
        assert not got.probes["gradients"][0][: last.shift].any()


def test_rounds_of_unequal_clients_agree_while_their_units_change() -> None:
    changed = []

    @given(drawn=chains(), seed=SEEDS, clients=st.integers(1, 3))
    def rounds_agree(drawn, seed, clients) -> None:
        program, engine, reference, start, rng = setting(drawn, seed)
        plan = Plan(drawn_jobs(program, clients, start, rng, learned=True), PROBES)
        cohort = drawn_cohort(clients, COUNT, rng)
        want = reference.train(start, plan, cohort)
        for _ in each_isa():
            agree(engine.train(start, plan, cohort), want)
        for job, by_step in zip(plan.jobs, want.probes["kept"], strict=True):
            if len(by_step) > 1 and job.hold.counts != program.counts(1):
                changed.append(len({kept.numpy().tobytes() for kept in by_step}) > 1)

    rounds_agree()
    assert len(changed) >= 8
    assert sum(changed) >= len(changed) / 2


@given(drawn=chains(), seed=SEEDS, clients=st.integers(1, 3))
def test_rounds_of_fixed_units_agree(drawn, seed, clients) -> None:
    program, engine, reference, start, rng = setting(drawn, seed)
    plan = Plan(drawn_jobs(program, clients, start, rng, learned=False), PROBES)
    cohort = drawn_cohort(clients, COUNT, rng)
    want = reference.train(start, plan, cohort)
    for _ in each_isa():
        agree(engine.train(start, plan, cohort), want)


MLP = ((1, 3, 3), [["flatten"], ["linear", 7], ["relu"], ["linear", 5], ["relu"], ["linear", 3]])


def small():
    shape, steps = MLP
    return setting((chain(shape, steps), shape), 1)


@pytest.mark.parametrize("pool", [nn.Identity, lambda: nn.AvgPool2d(2), lambda: nn.MaxPool2d(2)])
def test_the_classes_may_be_the_places_of_a_convolution(pool) -> None:
    """Nothing stands behind the flatten: class by class are channels, then rows, then columns."""
    module = nn.Sequential(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Conv2d(4, 3, 1), pool(), nn.Flatten())
    program, engine, reference, start, _ = setting((module, (1, 5, 3)), 2)
    models, own = whole(program, start), [numpy.arange(COUNT)]
    job = Job(0, Hold(program.counts(0.5), first_units(program, program.counts(0.5))), (Segment(0.1),))
    plan, cohort = Plan((job,), PROBES), cohort_of([[0, 1, 2], [3, 4]])
    for _ in each_isa():
        agree_on_evaluation(engine.evaluate(models, own, "test"), reference.evaluate(models, own, "test"))
        agree(engine.train(start, plan, cohort), reference.train(start, plan, cohort))


def test_nobody_takes_part() -> None:
    _, engine, reference, start, _ = small()
    agree(engine.train(start, Plan((), PROBES), cohort_of()), reference.train(start, Plan((), PROBES), cohort_of()))
    nothing = Plan(())
    agree(engine.train(start, nothing, cohort_of([[1]])), reference.train(start, nothing, cohort_of([[1]])))


@pytest.mark.parametrize("learned", [True, False])
def test_a_client_without_steps_gives_back_what_it_received(learned) -> None:
    program, engine, reference, start, rng = small()
    jobs, cohort = drawn_jobs(program, 3, start, rng, learned=learned), cohort_of([[0, 1]], [], [[2], [3]])
    got = engine.train(start, Plan(jobs, PROBES), cohort)
    agree(got, reference.train(start, Plan(jobs, PROBES), cohort))
    assert torch.equal(got.probes["parameters"][1], start)
    assert numpy.isnan(got.losses[1])
    assert got.seen.tolist() == [2, 0, 2]


@pytest.mark.parametrize("spread", [0.0, -0.0, 1e300, -1e300])
def test_equal_redundancies_go_by_their_place(spread) -> None:
    """Nothing learns them, so that they stay tied: the lower units are kept, -0.0 no better than 0.0."""
    program, engine, reference, start, _ = small()
    d = torch.full((program.units,), spread, dtype=torch.float64)
    d[::2] = 0.0 if spread == 0 else spread
    job = Job(0, Hold(program.counts(0.4), Learned(d, 0.0, 0.0, "mean")), (Segment(0.1),))
    got = engine.train(start, Plan((job,), PROBES), cohort_of([[0], [1]]))
    agree(got, reference.train(start, Plan((job,), PROBES), cohort_of([[0], [1]])))
    assert torch.equal(got.submodels.kept[0], first_units(program, program.counts(0.4)))


def test_what_is_handed_in_stays_as_it_was() -> None:
    program, engine, _, start, rng = small()
    jobs = drawn_jobs(program, 2, start, rng, learned=True)
    given_tensors = [start, *(job.hold.units.redundancy for job in jobs)]
    copies = [tensor.clone() for tensor in given_tensors]
    engine.train(start, Plan(jobs), cohort_of([[0, 1], [2]], [[3]]))
    assert all(map(torch.equal, given_tensors, copies))
