"""The CUDA engine's passes: drawn widths, passes that are left out, and teachers, against the definition in float64."""

from collections.abc import Callable
from dataclasses import replace

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlps.engine.cuda.definitions import defined
from fedlps.engine.cuda.launches import Launches
from fedlps.engine.cuda.numbers import alike
from fedlps.engine.plan import Hold, Job, Pass, Plan, Pull, Segment
from fedlps.program import Program
from tests.engine.agreement import agree, bits
from tests.engine.cases import first_units, samples
from tests.engine.chains import chains
from tests.engine.drawn_jobs import MOST_STEPS, drawn_cohort, start_of
from tests.engine.drawn_terms import Setting, normed, plain
from tests.engine.on_cuda import PROBES, TOLERANCE, beside, both
from tests.engine.test_cuda_chains import carried
from tests.engine.test_cuda_memory import counted_bytes

COUNT = 60  # samples
Widths = tuple[tuple[int, ...] | None, ...]


def widths(counts: tuple[int, ...], rng: numpy.random.Generator, left_out: float = 0.0) -> Widths:
    """Of every step, of each group by itself: those of one pass need not lie within those of another."""
    return tuple(
        None if rng.random() < left_out else tuple(int(rng.integers(1, count + 1)) for count in counts)
        for _ in range(MOST_STEPS)
    )


def drawn_passes(counts: tuple[int, ...], rng: numpy.random.Generator) -> tuple[Pass, ...]:
    """One to three, each whole or narrow; later ones may be left out at a step, and be taught by one that is not."""
    passes: list[Pass] = []
    for number in range(int(rng.integers(1, 4))):
        taken = [place for place, one in enumerate(passes) if one.widths is None or None not in one.widths]
        passes.append(
            Pass(
                weight=float(rng.choice([1, 1, -0.5, 0.25])),
                widths=widths(counts, rng, 0.4 * (number > 0)) if rng.random() < 0.7 else None,
                teacher=int(rng.choice(taken)) if taken and rng.random() < 0.6 else None,
            )
        )
    return tuple(passes)


def again(passes: tuple[Pass, ...], counts: tuple[int, ...], rng: numpy.random.Generator) -> tuple[Pass, ...]:
    """The same passes for another client: with widths of its own."""
    return tuple(
        one if one.widths is None else replace(one, widths=widths(counts, rng, 0.4 * (None in one.widths)))
        for one in passes
    )


def drawn_jobs(program: Program, clients: int, start: torch.Tensor, rng: numpy.random.Generator) -> tuple[Job, ...]:
    """Unequal clients, of which some share their passes and are trained together."""
    jobs: list[Job] = []
    segment = Segment(0.3, float(rng.choice([0, 0.8])), float(rng.choice([0, 0.05])), float(rng.choice([0, 0.3])))
    pulls = (Pull(0.2, 0.5 * start),) if rng.random() < 0.5 else ()
    for client in range(clients):
        counts = program.counts(float(rng.choice([1, 0.6, 0.3])))
        shared = jobs and rng.random() < 0.7
        passes = again(jobs[-1].segments[0].passes, counts, rng) if shared else drawn_passes(counts, rng)
        hold = Hold(counts, first_units(program, counts))
        jobs.append(Job(client, hold, (replace(segment, passes=passes),), pulls=pulls))
    return tuple(jobs)


def test_rounds_of_drawn_passes_agree() -> None:
    together = []

    @given(drawn=chains().filter(carried), seed=st.integers(0, 2**32), clients=st.integers(1, 4))
    def rounds_agree(drawn, seed, clients) -> None:
        module, shape = drawn
        classes = module(torch.zeros(2, *shape)).shape[1]
        program, engine, reference = both(module, shape, samples(shape, classes, COUNT, seed % 1000))
        start, rng = start_of(program, seed), numpy.random.default_rng(seed)
        plan = Plan(drawn_jobs(program, clients, start, rng), PROBES)
        cohort = drawn_cohort(clients, COUNT, rng)
        agree(engine.train(start, plan, cohort), reference.train(start, plan, cohort), TOLERANCE)
        together.append(max(map(len, alike(plan.jobs))))

    rounds_agree()
    assert max(together) >= 3


@pytest.fixture(scope="module", params=[plain, normed])
def setting(request: pytest.FixtureRequest) -> Setting:
    return beside(Setting.of(request.param))


def taught(setting: Setting, *, alone: bool = False, seed: int = 0, ratios=(1, 0.6, 0.3)) -> Plan:
    """FjORD's round of three clients: a whole pass that teaches a narrow one, or a narrow one alone."""
    jobs = []
    for client, ratio in enumerate(ratios):
        rng = numpy.random.default_rng([seed, client])
        hold = setting.leading(ratio)
        own = widths(hold.counts, rng, 0.0 if alone else 0.3)
        narrow = Pass(widths=(*own, own[0] or hold.counts), teacher=None if alone else 0)
        segment = Segment(0.2, 0.7, 0.05, 0.3, passes=(narrow,) if alone else (Pass(), narrow))
        jobs.append(Job(client, hold, (segment,), scale=(1.5,) * len(hold.counts)))
    return Plan(tuple(jobs), PROBES)


@pytest.mark.parametrize("alone", [True, False])
def test_the_rounds_of_fjord_agree(setting: Setting, alone: bool) -> None:
    plan = taught(setting, alone=alone)
    want = setting.reference.train(setting.start, plan, setting.cohort)
    agree(setting.engine.train(setting.start, plan, setting.cohort), want, TOLERANCE)


def test_entries_that_no_pass_takes_stay_to_the_bit(setting: Setting) -> None:
    """Neither decay nor a pull nor momentum moves them; two passes, neither of which lies within the other."""
    counts = setting.program.counts(1)
    hold = Hold(counts, first_units(setting.program, counts))
    one, other = tuple(min(3, count) for count in counts), (2, *counts[1:])
    passes = tuple(Pass(widths=(width,) * 7) for width in (one, other))
    job = Job(0, hold, (Segment(0.2, 0.7, 0.05, passes=passes),), pulls=(Pull(0.2, setting.other(1)),))
    got = setting.engine.train(setting.start, Plan((job,), PROBES), setting.cohort).probes["parameters"][0]
    takes = torch.zeros(setting.program.size, dtype=torch.bool)
    for width in (one, other):
        units, table = first_units(setting.program, width), torch.tensor(width)
        takes[setting.program.layout().entries(units, table)] = True
    assert 0 < int(takes.sum()) < len(takes)
    assert torch.equal(got != setting.start, takes)


@pytest.mark.parametrize("alone", [True, False])
def test_a_client_has_the_same_bits_in_any_company(setting: Setting, alone: bool) -> None:
    plan = taught(setting, alone=alone)
    want = setting.engine.train(setting.start, plan, setting.cohort)
    for rows in ([2, 0], [1], [0, 1, 2, 0]):
        part = replace(plan, jobs=tuple(plan.jobs[row] for row in rows))
        got = beside(setting, batch=9).engine.train(setting.start, part, setting.cohort)
        assert all(bits(got, place) == bits(want, row) for place, row in enumerate(rows))


def test_the_same_memory_serves_other_widths(setting: Setting) -> None:
    """Widths lie in tables on the device: other ones, of other counts, find them where the last ones lay."""
    engine, stamps = beside(setting, memory=10**9, batch=12).engine, set()
    for seed, ratios in enumerate(((1, 0.6, 0.3), (0.3, 0.3, 1), (0.6, 1, 0.3))):
        plan = taught(setting, seed=seed, ratios=ratios)
        for held in engine.buffers._held.values():
            held.fill_(float("nan") if held.is_floating_point() else -77)
        want = setting.reference.train(setting.start, plan, setting.cohort)
        agree(engine.train(setting.start, plan, setting.cohort), want, TOLERANCE)
        stamps.add(engine.buffers.generation)
    assert len(stamps) == 1


@pytest.mark.parametrize("alone", [True, False])
def test_what_passes_take_is_counted(setting: Setting, alone: bool) -> None:
    plan, engine = taught(setting, alone=alone), beside(setting).engine
    engine.train(setting.start, plan, setting.cohort)
    _, each = counted_bytes(setting, plan, setting.cohort)
    assert 0.5 * int(each.sum()) < engine.buffers.bytes < int(each.sum()) + 100 * 8 * 64


class Counted:
    """Launches whose names are noted."""

    def __init__(self, launches: object, names: list[str]) -> None:
        self._launches, self._names = launches, names

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            self._names.append(name)
            return getattr(self._launches, name)(*arguments, **named)

        return call


def launches_of(setting: Setting, plan: Plan) -> dict[str, int]:
    """How often each is made in a round of three clients, whose first has seven steps."""
    names: list[str] = []
    products, weights = defined(setting.program.layout())
    given = Launches(Counted(products, names), Counted(weights, names))
    beside(setting, launches=given).engine.train(setting.start, plan, setting.cohort)
    return {name: names.count(name) for name in ("gather", "move", "loss", "scatter_update")}


def test_every_pass_adds_its_own_launches_and_no_others(setting: Setting) -> None:
    jobs = taught(setting).jobs
    one = Plan(tuple(replace(job, segments=(Segment(0.2),)) for job in jobs), PROBES)
    steps, compact = 7, 1
    once = {"gather": steps, "scatter_update": steps}
    assert launches_of(setting, one) == {**once, "move": 2 * steps + compact, "loss": steps}
    assert launches_of(setting, taught(setting, alone=True)) == launches_of(setting, one)
    assert launches_of(setting, taught(setting)) == {**once, "move": 4 * steps + compact, "loss": 2 * steps}


def test_no_pass_waits_for_the_device(setting: Setting, monkeypatch) -> None:
    """All that steps make follows from shapes alone: they run on tensors without memory, which nobody can read."""

    class Nothing:
        def __getattr__(self, name: str) -> Callable[..., int]:
            return lambda *arguments, **named: 0

    for alone in (True, False):
        engine = beside(setting, launches=Launches(Nothing(), Nothing())).engine
        engine.buffers.device = torch.device("meta")
        taken = []

        def run(step: Callable[[], None], number: int, key: object, taken: list[int] = taken) -> None:
            for each in range(number):
                step()
                taken.append(each)
            raise InterruptedError

        monkeypatch.setattr(engine.graphs, "run", run)
        with pytest.raises(InterruptedError):
            engine.train(setting.start, taught(setting, alone=alone), setting.cohort)
        assert len(taken) == 7


MALFORMED = {
    "pass 1: has widths for 2 steps, expected 7": (Pass(), Pass(widths=((1, 1, 1),) * 2)),
    "pass 1: refers to pass 1, allowed: earlier ones": (Pass(), Pass(teacher=1)),
    "widths: got 6 leading units of group 0, which the job does not hold": (Pass(widths=((6, 1, 1),) * 7),),
    "pass 1: is left out at this step, but a later pass refers to it": (
        Pass(),
        Pass(widths=(None,) * 7),
        Pass(teacher=1),
    ),
}


@pytest.mark.parametrize("says", MALFORMED)
def test_passes_that_nobody_can_run_are_one_line(setting: Setting, says: str) -> None:
    job = Job(0, setting.leading(0.5), (Segment(0.2, passes=MALFORMED[says]),))
    with pytest.raises(ValueError, match=f"^{says}$"):
        setting.engine.train(setting.start, Plan((job,)), setting.cohort)
