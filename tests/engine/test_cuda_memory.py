"""Memory of the CUDA engine: what clients take, cohorts in parts, and buffers that serve one round after another."""

from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.engine.cuda import capacity
from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.capacity import Setting as Memory
from fedlps.engine.cuda.graphs import MOST, Graphs
from fedlps.engine.cuda.launches import Launches
from fedlps.engine.cuda.network import network
from fedlps.engine.cuda.numbers import Numbers, alike
from fedlps.engine.plan import Job, Learned, Plan, Pull, Segment
from fedlps.errors import InputError
from fedlps.models import build
from fedlps.trace import derive
from tests.engine.agreement import agree, bits
from tests.engine.cases import cohort_of
from tests.engine.drawn_jobs import drawn_jobs
from tests.engine.drawn_terms import COUNT, Setting, normed
from tests.engine.on_cuda import PROBES, TOLERANCE, beside

GIGABYTE = 10**9
LEVELS = (1.0, 0.5, 0.25, 0.125, 0.0625)


@pytest.fixture(scope="module")
def setting() -> Setting:
    return beside(Setting.of(normed))


def drawn(setting: Setting, seed: int, clients: int = 4, learned: bool = True):
    """A plan and its cohort: unequal clients, numbers of steps and batches, the last ones short.

    Every job has the same terms with the same numbers, so that all of them are trained together.
    """
    rng = numpy.random.default_rng(seed)
    jobs = [
        _alike(job, setting.start) for job in drawn_jobs(setting.program, clients, setting.start, rng, learned=learned)
    ]
    sizes = [[int(rng.integers(1, 12)) for _ in range(rng.integers(1, 5))] for _ in jobs]
    batches = [[rng.choice(COUNT, size, replace=False).tolist() for size in own] for own in sizes]
    return Plan(tuple(jobs), PROBES), cohort_of(*batches)


def _alike(job: Job, start: torch.Tensor) -> Job:
    hold = job.hold
    if isinstance(hold.units, Learned):
        hold = replace(hold, units=replace(hold.units, kappa=0.1, strength=0.5, reduction="mean"))
    return replace(job, hold=hold, segments=(Segment(0.1, 0.5, 0.01, 0.3),), pulls=(Pull(0.1, start),))


def counted_bytes(setting: Setting, plan: Plan, cohort):
    """What the engine asks for, and the bytes of each client, of whom the first has what all share."""
    engine, batches = setting.engine, [list(cohort.batches(job.client)) for job in plan.jobs]
    memory = engine.setting(plan, list(range(len(plan.jobs))), batches)
    counts = torch.tensor([job.hold.counts for job in plan.jobs])
    return memory, capacity.client_bytes(engine.network, engine.layout, counts, memory)


def test_a_thousand_clients_of_mixed_capabilities_fit_as_one_cohort() -> None:
    """VGG11 of batch 20, with pulls, in every precision; and what they take is what is allocated, and little more."""
    program = derive(build("vgg11", (3, 32, 32), 10, {}), (3, 32, 32))
    layout, chain = program.layout(), network(program)
    counts = torch.tensor([program.counts(level) for level in LEVELS]).repeat(200, 1)
    numbers = Numbers(0.0, 1.2e-6, 0.0, (2.0 / program.size,), (1.0, 0.0, "mean"))
    for store, most in ((torch.float32, 80), (torch.bfloat16, 60)):
        terms = {"transposed": store == torch.float32, "numbers": numbers, "shared_pulls": (True,)}
        each = capacity.client_bytes(chain, layout, counts, Memory(20, 128, torch.float32, store, **terms))
        assert 4 * 1000 * program.size < int(each.sum()) < most * GIGABYTE
        assert capacity.parts(each, 130 * GIGABYTE) == [slice(0, 1000)]


@pytest.mark.parametrize("learned", [True, False])
def test_what_is_allocated_is_what_was_counted(setting: Setting, learned: bool) -> None:
    engine = beside(setting).engine
    plan, cohort = drawn(setting, 3, learned=learned)
    engine.train(setting.start, plan, cohort)
    memory, each = counted_bytes(setting, plan, cohort)
    assert memory.numbers.momentum
    counted = int(each.sum())
    assert 0.5 * counted < engine.buffers.bytes < counted + 100 * 8 * 64  # alignment of small tables


def test_parts_are_consecutive_and_as_large_as_fits() -> None:
    each = torch.tensor([5, 1, 1, 7, 2, 4])
    assert capacity.parts(each, None) == [slice(0, 6)]
    assert capacity.parts(each, 20) == [slice(0, 6)]
    assert capacity.parts(each, 7) == [slice(0, 3), slice(3, 4), slice(4, 6)]
    assert capacity.parts(each, 8) == [slice(0, 3), slice(3, 4), slice(4, 6)]
    assert capacity.parts(each[:0], 1) == []
    with pytest.raises(
        InputError, match=r"^memory: got 6 bytes, but one client takes 7 of a GPU; allowed: so many at least, or auto$"
    ):
        capacity.parts(each, 6)
    assert capacity.parts(each, 8, shared=1) == [slice(0, 3), slice(3, 4), slice(4, 6)]


@pytest.mark.parametrize("seed", range(2))
def test_a_cohort_in_parts_has_the_same_bits(setting: Setting, seed: int) -> None:
    plan, cohort = drawn(setting, seed)
    want = setting.engine.train(setting.start, plan, cohort)
    memory, each = counted_bytes(setting, plan, cohort)
    shared = 8 * setting.program.size
    for budget in (int(each.max()) + shared, int(each.sum()) - 1):
        assert len(capacity.parts(each, budget)) > 1
        got = beside(setting, memory=budget).engine.train(setting.start, plan, cohort)
        assert all(bits(got, row) == bits(want, row) for row in range(len(plan.jobs)))
    alone = Plan(plan.jobs[2:3], PROBES)
    got = beside(setting, batch=memory.batch).engine.train(setting.start, alone, cohort)
    assert bits(got, 0) == bits(want, 2)


def test_jobs_of_other_numbers_are_trained_apart_and_keep_their_places(setting: Setting) -> None:
    plan, cohort = drawn(setting, 7)
    steeper = tuple(replace(job, segments=(Segment(0.1 + 0.1 * (job.client % 2)),)) for job in plan.jobs)
    assert alike(plan.jobs) == [[0, 1, 2, 3]]
    assert alike(steeper) == [[0, 2], [1, 3]]
    got = setting.engine.train(setting.start, replace(plan, jobs=steeper), cohort)
    agree(got, setting.reference.train(setting.start, replace(plan, jobs=steeper), cohort), TOLERANCE)


def test_one_client_that_is_too_large_names_the_key(setting: Setting) -> None:
    plan, cohort = drawn(setting, 1)
    with pytest.raises(
        InputError, match=r"^memory: got 10000 bytes, but one client takes \d+ of a GPU; allowed: so many"
    ):
        beside(setting, memory=10_000).engine.train(setting.start, plan, cohort)


def test_a_gpu_without_room_names_the_key(setting: Setting, monkeypatch) -> None:
    plan, cohort = drawn(setting, 1)
    engine = beside(setting, memory=10**9).engine

    def full(*_) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(engine.graphs, "run", full)
    with pytest.raises(
        InputError, match=r"^memory: got 1000000000 bytes, for which the GPU has no room; allowed: less$"
    ):
        engine.train(setting.start, plan, cohort)
    assert engine.buffers.bytes == 0
    monkeypatch.undo()
    agree(engine.train(setting.start, plan, cohort), setting.engine.train(setting.start, plan, cohort), 0)


def test_the_same_buffers_serve_other_counts_and_numbers_of_steps(setting: Setting) -> None:
    """With a bound that leaves room for whole models, memory is made once and never moves; nothing old is read."""
    engine = beside(setting, memory=10**9, batch=12).engine
    stamps = set()
    for seed in range(4):
        plan, cohort = drawn(setting, seed)
        for held in engine.buffers._held.values():
            held.fill_(float("nan") if held.is_floating_point() else -77)
        got = engine.train(setting.start, plan, cohort)
        agree(got, setting.reference.train(setting.start, plan, cohort), TOLERANCE)
        fresh = beside(setting, batch=12).engine.train(setting.start, plan, cohort)
        assert all(bits(got, row) == bits(fresh, row) for row in range(len(plan.jobs)))
        stamps.add(engine.buffers.generation)
    assert len(stamps) == 1
    shared = engine.buffers._held["references 0"]
    assert len(shared) == setting.program.size


def test_evaluations_in_between_leave_training_alone(setting: Setting) -> None:
    engine = beside(setting).engine
    plan, cohort = drawn(setting, 5)
    want = engine.train(setting.start, plan, cohort)
    engine.evaluate(want.submodels, [numpy.arange(COUNT)] * len(plan.jobs), "test")
    got = engine.train(setting.start, plan, cohort)
    assert all(bits(got, row) == bits(want, row) for row in range(len(plan.jobs)))


def test_evaluations_in_parts_have_the_same_bits(setting: Setting) -> None:
    plan, cohort = drawn(setting, 2)
    models = setting.engine.train(setting.start, plan, cohort).submodels
    own = [numpy.arange(size) for size in (0, 1, COUNT, 12)]
    engine = beside(setting, evaluation_batch=7).engine
    want = engine.evaluate(models, own, "test")
    asked = Memory(7, 1, torch.float64, torch.float64, trains=False, transposed=False)
    each = capacity.client_bytes(engine.network, engine.layout, models.counts.long(), asked)
    small = beside(setting, evaluation_batch=7, memory=int(each.max() + each.min())).engine
    assert len(capacity.parts(each, small.memory)) > 1
    got = small.evaluate(models, own, "test")
    assert got.losses.tolist() == want.losses.tolist()
    assert [hits.tolist() for hits in got.hits] == [hits.tolist() for hits in want.hits]


def test_buffers_move_only_when_they_must() -> None:
    buffers = Buffers(torch.device("cpu"))
    first = buffers.take("a", 10, torch.float32, room=100)
    assert len(first) == 100
    assert buffers.take("a", 100, torch.float32).data_ptr() == first.data_ptr()
    stamp = buffers.generation
    one, two = buffers.put("tables", [torch.arange(3), torch.arange(70).view(7, 10)])
    assert buffers.generation == stamp + 1
    again = buffers.put("tables", [torch.arange(3) + 1, torch.arange(70).view(7, 10) + 1])
    assert [tensor.data_ptr() for tensor in again] == [one.data_ptr(), two.data_ptr()]
    assert one.tolist() == [1, 2, 3]
    assert two[6, 9] == 70
    assert buffers.generation == stamp + 1
    buffers.take("a", 101, torch.float32)
    assert buffers.generation == stamp + 2


class _Replayed:
    """A graph that counts its replays."""

    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1


def test_a_captured_step_is_replayed_until_memory_moves(monkeypatch) -> None:
    """The first step runs call by call, as the warm-up that it is; it is captured once per shape."""
    buffers = Buffers(torch.device("cpu"))
    graphs, captured, warm = Graphs(buffers), [], []

    def capture(step):
        step()
        captured.append(_Replayed())
        return captured[-1]

    monkeypatch.setattr(graphs, "_capture", capture)
    monkeypatch.setattr(buffers, "device", torch.device("cuda"))

    def step() -> None:
        warm.append(1)

    graphs.run(step, 5, "ten clients")
    graphs.run(step, 3, "ten clients")
    graphs.run(step, 2, "five clients")
    assert [graph.replays for graph in captured] == [7, 1]
    buffers.generation += 1
    graphs.run(step, 2, "ten clients")
    assert [graph.replays for graph in captured] == [7, 1, 1]
    graphs.run(step, 0, "none")
    assert len(warm) == len(captured) == 3

    def asking() -> None:
        buffers.generation += len(warm) == 3
        warm.append(1)

    graphs.run(asking, 4, "a step that asks for memory")
    graphs.run(asking, 4, "a step that asks for memory")
    assert [graph.replays for graph in captured[3:]] == [7]
    for number in range(20):
        graphs.run(asking, 2, number)
        assert len(graphs._captured) <= MOST


class _Nothing:
    """Launches that compute nothing."""

    def __getattr__(self, name: str):
        return lambda *arguments, **named: 0


def test_no_step_waits_for_the_device(setting: Setting, monkeypatch) -> None:
    """All that a step makes follows from shapes alone: it runs on tensors without memory, which nobody can read."""
    engine = beside(setting, launches=Launches(_Nothing(), _Nothing())).engine
    engine.buffers.device = torch.device("meta")
    plan, cohort = drawn(setting, 4)
    steps = []

    def run(step, number, key) -> None:
        for _ in range(number):
            step()
            steps.append(step)
        raise InterruptedError

    monkeypatch.setattr(engine.graphs, "run", run)
    with pytest.raises(InterruptedError):
        engine.train(setting.start, plan, cohort)
    assert len(steps) > 1
