"""The CUDA engine's control flow against the definition in float64: drawn chains through evaluations and rounds."""

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedlps.engine.cuda.network import Product, Stage, network, why_not
from fedlps.engine.plan import Hold, Job, Learned, Plan, Segment
from fedlps.engine.result import Submodels
from fedlps.models import build, chain
from fedlps.trace import derive
from fedlps_kernels import gather_weights
from tests.engine.agreement import agree, agree_on_evaluation
from tests.engine.cases import cohort_of, first_units, samples
from tests.engine.chains import Shape, chains
from tests.engine.drawn_jobs import drawn_cohort, drawn_jobs, random_units, start_of
from tests.engine.on_cuda import PROBES, TOLERANCE, both

SEEDS = st.integers(0, 2**32)
COUNT = 60  # samples


def carried(drawn: tuple[nn.Sequential, Shape]) -> bool:
    """Whether the engine runs such a chain."""
    return not why_not(derive(*drawn))


def setting(drawn: tuple[nn.Sequential, Shape], seed: int, **options):
    """Program, engine, reference, parameters and a generator."""
    module, shape = drawn
    classes = module(torch.zeros(2, *shape)).shape[1]
    program, engine, reference = both(module, shape, samples(shape, classes, COUNT, seed % 1000), **options)
    return program, engine, reference, start_of(program, seed), numpy.random.default_rng(seed)


def test_rounds_of_unequal_clients_agree_while_their_units_change() -> None:
    changed = []

    @given(drawn=chains().filter(carried), seed=SEEDS, clients=st.integers(1, 4))
    def rounds_agree(drawn, seed, clients) -> None:
        program, engine, reference, start, rng = setting(drawn, seed)
        plan = Plan(drawn_jobs(program, clients, start, rng, learned=True), PROBES)
        cohort = drawn_cohort(clients, COUNT, rng)
        want = reference.train(start, plan, cohort)
        agree(engine.train(start, plan, cohort), want, TOLERANCE)
        for job, by_step in zip(plan.jobs, want.probes["kept"], strict=True):
            if len(by_step) > 1 and job.hold.counts != program.counts(1):
                changed.append(len({kept.numpy().tobytes() for kept in by_step}) > 1)

    rounds_agree()
    assert len(changed) >= 8
    assert sum(changed) >= len(changed) / 2


@given(drawn=chains().filter(carried), seed=SEEDS, clients=st.integers(1, 4))
def test_rounds_of_fixed_units_agree(drawn, seed, clients) -> None:
    program, engine, reference, start, rng = setting(drawn, seed)
    plan = Plan(drawn_jobs(program, clients, start, rng, learned=False), PROBES)
    cohort = drawn_cohort(clients, COUNT, rng)
    agree(engine.train(start, plan, cohort), reference.train(start, plan, cohort), TOLERANCE)


@given(drawn=chains().filter(carried), seed=SEEDS)
def test_evaluations_agree(drawn, seed) -> None:
    """Full and thin submodels on no, one and many samples, in batches of one, seven and all."""
    program, engine, reference, start, rng = setting(drawn, seed)
    counts = [program.counts(ratio) for ratio in (1.0, 0.5, 0.01)]
    kept = torch.stack([random_units(program, own, rng) for own in counts])
    table, layout = torch.tensor(counts, dtype=torch.int32).reshape(3, -1), program.layout()
    capacity = int(layout.compact_sizes(table).max()) + 3
    models = Submodels(kept, table, gather_weights(3 * start[None], kept, table, layout, capacity))
    own = [rng.integers(COUNT, size=size) for size in rng.permutation([0, 1, 45])]
    reference.evaluation_batch = engine.evaluation_batch = int(rng.choice([1, 7, 200]))
    agree_on_evaluation(engine.evaluate(models, own, "test"), reference.evaluate(models, own, "test"), TOLERANCE)


@given(drawn=chains(norms=False).filter(carried), seed=SEEDS)
def test_of_equal_entries_of_a_window_the_first_is_the_largest(drawn, seed) -> None:
    """Weights and pixels of few values tie in almost every window and are often exactly 0 before a ReLU."""
    program, engine, reference, _, rng = setting(drawn, seed)
    ties = rng.choice([-0.5, 0, 0, 0.5], size=engine.images.samples.inputs.shape)
    engine.images.samples.inputs[:] = reference.samples.inputs[:] = ties
    start = torch.from_numpy(rng.choice([-0.25, 0, 0.25], size=program.size))
    hold = Hold(program.counts(1), first_units(program, program.counts(1)))
    plan, cohort = Plan((Job(0, hold, (Segment(0.1),)),), PROBES), cohort_of([list(range(20))])
    agree(engine.train(start, plan, cohort), reference.train(start, plan, cohort), TOLERANCE)


def small():
    shape, steps = (1, 3, 3), [["flatten"], ["linear", 7], ["relu"], ["linear", 5], ["relu"], ["linear", 3]]
    return setting((chain(shape, steps), shape), 1)


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
    agree(got, reference.train(start, Plan(jobs, PROBES), cohort), TOLERANCE)
    assert torch.equal(got.probes["parameters"][1], start)
    assert numpy.isnan(got.losses[1])


@pytest.mark.parametrize("value", [0.0, -0.0, 1e300, -1e300])
def test_equal_redundancies_go_by_their_place(value) -> None:
    program, engine, reference, start, _ = small()
    d = torch.full((program.units,), value, dtype=torch.float64)
    d[::2] = 0.0 if value == 0 else value
    job = Job(0, Hold(program.counts(0.4), Learned(d, 0.0, 0.0, "mean")), (Segment(0.1),))
    got = engine.train(start, Plan((job,), PROBES), cohort_of([[0], [1]]))
    agree(got, reference.train(start, Plan((job,), PROBES), cohort_of([[0], [1]])), TOLERANCE)
    assert torch.equal(got.submodels.kept[0], first_units(program, program.counts(0.4)))


def test_what_is_handed_in_stays_as_it_was() -> None:
    program, engine, _, start, rng = small()
    jobs = drawn_jobs(program, 2, start, rng, learned=True)
    given_tensors = [start, *(job.hold.units.redundancy for job in jobs)]
    copies = [tensor.clone() for tensor in given_tensors]
    engine.train(start, Plan(jobs), cohort_of([[0, 1], [2]], [[3]]))
    assert all(map(torch.equal, given_tensors, copies))


def operations(*steps: list) -> list[str]:
    """The network's operations in words: what a stage does, in its order."""
    program = derive(chain((2, 8, 8), list(steps)), (2, 8, 8))
    words = []
    for one in network(program).operations:
        if isinstance(one, Product):
            words.append(one.kind)
        else:
            parts = ("norm" if one.norm is not None else "", "relu" if one.relu else "", one.pool or "")
            words.append(" ".join(part for part in parts if part))
    return words


def test_stages_take_what_follows_a_layer_and_no_more() -> None:
    head = [["flatten"], ["linear", 3]]
    conv = ["conv", 4, 3, 1, 1]
    assert operations(conv, ["norm"], ["relu"], ["maxpool", 2], *head) == ["conv", "norm relu max", "linear"]
    assert operations(conv, ["maxpool", 2], ["relu"], *head) == ["conv", "relu max", "linear"]
    assert operations(conv, ["relu"], ["avgpool", 2], *head) == ["conv", "relu avg", "linear"]
    assert operations(conv, ["avgpool", 2], ["relu"], *head) == ["conv", "avg", "relu", "linear"]
    assert operations(conv, ["maxpool", 2], ["maxpool", 2], *head) == ["conv", "max", "max", "linear"]
    assert operations(["relu"], conv, conv, *head) == ["relu", "conv", "conv", "linear"]
    assert operations(conv, ["flatten"], ["relu"], ["linear", 3]) == ["conv", "relu", "linear"]
    assert network(derive(build("vgg11", (3, 32, 32), 10, {}), (3, 32, 32))).operations[1] == Stage(0, True, "max", 2)
