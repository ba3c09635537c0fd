"""The CPU engine against the definition in float64: every term of the plan alone, and all in drawn combinations."""

from collections.abc import Callable
from dataclasses import replace

import numpy
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedlps.engine.plan import Hold, Job, Learned, Pass, Plan, Probe, Pull, Segment
from fedlps.engine.result import whole
from tests.engine.agreement import agree, agree_on_evaluation, same
from tests.engine.changes import halve, prune, swap
from tests.engine.drawn_jobs import nearly_tied
from tests.engine.drawn_terms import COUNT, PROBES, STEPS_PER_CLIENT, Setting, branched, normed, plain, plans
from tests.engine.engines import each_isa, needs_engine

pytestmark = [needs_engine, pytest.mark.usefixtures("poisoned_memory")]
DEPTHS = 3
LEADING = [(1, 2, 3), (3, 2, 4), (2, 1, 1), (3, 2, 4), (3, 1, 4), (1, 2, 1), (3, 2, 3)]  # units per step, of 0.6 of all
Term = Callable[[Setting, Job], Job]


@pytest.fixture(scope="module", params=[plain, normed])
def setting(request: pytest.FixtureRequest) -> Setting:
    return Setting.of(request.param)


@pytest.fixture(scope="module")
def without_norms() -> Setting:
    return Setting.of(plain)


@pytest.fixture(scope="module")
def exits() -> Setting:
    return Setting.of(branched)


def base(setting: Setting) -> tuple[Job, ...]:
    """A job per client: six tenths of the units."""
    return tuple(Job(client, setting.units(0.6), (Segment(0.2),)) for client in range(3))


def agree_on(setting: Setting, plan: Plan):
    """Both executors agree on the plan, on every instruction set. Returns the definition's answer."""
    want = setting.reference.train(setting.start, plan, setting.cohort)
    for _ in each_isa():
        agree(setting.engine.train(setting.start, plan, setting.cohort), want)
    return want


def optimised(**terms) -> Term:
    """Another optimiser of a single segment; `passes` may be a function of the number of steps."""
    return lambda setting, job: replace(job, segments=(Segment(**{"lr": 0.2, **terms}),))


def following(*segments: Segment) -> Term:
    return lambda setting, job: replace(job, segments=segments)


def passing(*passes: Pass) -> Term:
    """Passes of one segment; widths are cut to the steps there are, of a job that holds the leading units."""

    def term(setting: Setting, job: Job) -> Job:
        steps = STEPS_PER_CLIENT[job.client]
        if any(one.widths for one in passes):
            job = replace(job, hold=setting.leading(0.6))
        cut = [one if one.widths is None else replace(one, widths=one.widths[:steps]) for one in passes]
        return replace(job, segments=(Segment(0.2, passes=tuple(cut)),))

    return term


def held(change: Callable[[Setting, Hold], Hold]) -> Term:
    return lambda setting, job: replace(job, hold=change(setting, job.hold))


def learned(kappa: float, strength: float, reduction: str) -> Term:
    def term(setting: Setting, hold: Hold) -> Hold:
        d = nearly_tied(setting.program, numpy.random.default_rng(1)).redundancy
        return replace(hold, units=Learned(d, strength, kappa, reduction))

    return held(term)


def zeroed(setting: Setting, job: Job) -> Job:
    """A penalty on a start of which a unit and its bias are 0: the direction of no length is 0."""
    layer = setting.program.layers[0]
    start = setting.start.clone()
    start[layer.weight : layer.weight + layer.fan_in] = 0
    start[layer.bias] = 0
    return replace(job, start=start, penalty=0.3)


ALONE: dict[str, Term] = {
    "counts": held(lambda setting, hold: setting.units(0.2)),
    "units": held(lambda setting, hold: setting.units(0.6, seed=3)),
    "Learned": learned(0.0, 1.0, "mean"),
    "Learned: kappa": learned(2.0, 0.5, "mean"),
    "Learned: sum": learned(0.5, 0.3, "sum"),
    "mask": held(lambda setting, hold: replace(hold, mask=setting.mask(0.5))),
    "mask of nothing": held(lambda setting, hold: replace(hold, mask=torch.zeros_like(setting.mask(0.5)))),
    "lr": optimised(lr=0.1),
    "momentum": optimised(momentum=0.9),
    "weight_decay": optimised(weight_decay=0.05),
    "clip": optimised(clip=0.1),
    "clip and all that it measures": lambda setting, job: replace(
        job, segments=(Segment(0.2, 0.5, 0.05, 0.2),), pulls=(Pull(0.3, setting.other(1)),), penalty=0.1
    ),
    "steps": following(Segment(0.2, steps=2)),
    "segments": following(Segment(0.2, steps=1), Segment(0.05)),
    "more steps than there are": following(Segment(0.1, steps=9), Segment(0.2)),
    "velocity that begins anew": following(Segment(0.2, 0.9, steps=2), Segment(0.2, 0.9)),
    "carry_velocity": following(Segment(0.2, 0.9, steps=2), Segment(0.2, 0.9, carry_velocity=True)),
    "carry_velocity past a segment without": following(
        Segment(0.2, 0.9, steps=1), Segment(0.2, steps=1), Segment(0.2, 0.9, carry_velocity=True)
    ),
    "trains": lambda setting, job: replace(
        job, segments=(Segment(0.2, 0.5, 0.02, steps=2, trains=setting.mask(0.5)), Segment(0.2))
    ),
    "after": following(Segment(0.2, steps=1, after=halve), Segment(0.2, after=halve)),
    "after that changes the mask": following(Segment(0.2, 0.5, steps=2, after=prune), Segment(0.2, 0.5)),
    "after_gradient": lambda setting, job: replace(
        held(lambda setting, hold: replace(hold, mask=setting.mask(0.5)))(setting, job),
        segments=(Segment(0.2, steps=2, after=swap, after_gradient=True), Segment(0.2)),
    ),
    "batch": passing(Pass(batch=1)),
    "batch before the step's own": passing(Pass(), Pass(batch=-1, weight=0.5)),
    "weight": passing(Pass(weight=-0.5)),
    "at": passing(Pass(weight=0.0), Pass(batch=1, at=((0, -0.2),))),
    "at several": passing(Pass(), Pass(batch=2, weight=0.0), Pass(batch=-1, at=((0, -0.1), (1, 0.3)), weight=-0.5)),
    "widths": passing(Pass(widths=tuple(LEADING))),
    "widths under momentum": lambda setting, job: replace(
        job,
        hold=setting.leading(0.6),
        segments=(
            Segment(0.2, 0.8, 0.1, passes=(Pass(widths=tuple(LEADING[: STEPS_PER_CLIENT[job.client]])),)),
        ),
    ),
    "teacher": passing(Pass(), Pass(widths=tuple(LEADING), teacher=0)),
    "passes left out": passing(
        Pass(), Pass(widths=(None, LEADING[0], None, LEADING[2], None, None, LEADING[3]), teacher=0)
    ),
    "start": lambda setting, job: replace(job, start=setting.other(job.client)),
    "pulls": lambda setting, job: replace(job, pulls=(Pull(0.3, setting.other(1)),)),
    "two pulls": lambda setting, job: replace(job, pulls=(Pull(0.3, setting.other(1)), Pull(0.7, setting.start))),
    "scale": lambda setting, job: replace(job, scale=(2.0, 0.5, 1.5)),
    "penalty": lambda setting, job: replace(job, penalty=0.1),
    "penalty of a unit that is 0": zeroed,
}  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_a_term_alone(setting: Setting, name) -> None:
    """It agrees, and it does something."""
    jobs = base(setting)
    plain_parameters = setting.reference.train(setting.start, Plan(jobs, PROBES), setting.cohort).probes["parameters"]
    changed = tuple(ALONE[name](setting, job) for job in jobs)
    got = agree_on(setting, Plan(changed, PROBES)).probes["parameters"]
    assert not torch.equal(got[0], plain_parameters[0])


@pytest.mark.parametrize("hold", [Setting.units, Setting.leading])
def test_widths_of_units_that_are_not_held_are_refused(setting: Setting, hold) -> None:
    """The only plan that the definition runs and the engine does not: no method has such a one."""
    passes = (Pass(widths=((4, 2, 4),)),)
    job = Job(2, hold(setting, 0.6), (Segment(0.2, passes=passes),))
    with pytest.raises(ValueError, match=r"^widths: got \d leading units of group 0, which the job does not hold$"):
        setting.engine.train(setting.start, Plan((job,)), setting.cohort)


def test_learned_units_change(setting: Setting) -> None:
    """Else the learned cases above would show nothing that the fixed ones do not."""
    for name in ("Learned", "Learned: kappa", "Learned: sum"):
        plan = Plan(tuple(ALONE[name](setting, job) for job in base(setting)), PROBES)
        by_step = setting.reference.train(setting.start, plan, setting.cohort).probes["kept"][0]
        assert len({kept.numpy().tobytes() for kept in by_step}) > 1, name


@pytest.mark.parametrize("depth", [None, 1, 2, 3])
@pytest.mark.parametrize("mutual", [0.0, 0.7])
def test_exits(exits: Setting, depth, mutual) -> None:
    """With all that trains of a depth, and what exits learn from each other; and thinned, with a teacher."""
    jobs = base(exits)
    wide = tuple(replace(job, hold=replace(exits.units(1), depth=depth), mutual=mutual) for job in jobs)
    want = agree_on(exits, Plan(wide, PROBES))
    less = tuple(replace(job, hold=replace(exits.units(1), depth=2), mutual=0.3) for job in jobs)
    assert not torch.equal(want.probes["parameters"][0], agree_on(exits, Plan(less, PROBES)).probes["parameters"][0])
    passes = (Pass(), Pass(teacher=0, at=((0, -0.1),)))
    thin = tuple(
        replace(job, hold=replace(job.hold, depth=depth), mutual=mutual, segments=(Segment(0.1, passes=passes),))
        for job in jobs
    )
    agree_on(exits, Plan(thin, PROBES))


def test_exits_are_evaluated_together(exits: Setting) -> None:
    """The mean of the logits of all of them."""
    own = [numpy.arange(COUNT)]
    models = whole(exits.program, 3 * exits.start)
    want = exits.reference.evaluate(models, own, "test")
    for _ in each_isa():
        agree_on_evaluation(exits.engine.evaluate(models, own, "test"), want)


def test_several_jobs_of_a_client_in_any_order(setting: Setting) -> None:
    jobs = base(setting)
    own = [
        replace(job, start=setting.other(job.client), destination="personal", pulls=(Pull(0.4, setting.start),))
        for job in jobs
    ]
    agree_on(setting, Plan((own[2], jobs[0], own[0], jobs[2], own[0], jobs[1]), PROBES))


@pytest.mark.parametrize("probe", sorted(PROBES))
def test_a_probe_alone_is_all_that_is_told(setting: Setting, probe: Probe) -> None:
    jobs = tuple(ALONE["Learned: kappa"](setting, job) for job in base(setting))
    told = agree_on(setting, Plan(jobs, frozenset({probe})))
    everything = setting.engine.train(setting.start, Plan(jobs, PROBES), setting.cohort)
    nothing = setting.engine.train(setting.start, Plan(jobs), setting.cohort)
    assert set(told.probes) == {probe}
    assert nothing.probes == {}
    assert same(nothing.submodels.parameters, everything.submodels.parameters), "telling changes nothing"


@settings(max_examples=60)
@given(data=st.data())
def test_drawn_combinations(without_norms: Setting, data: st.DataObject) -> None:
    """Not behind norms: pruned, a channel is constant, and its ties and gradients of 0 go by rounding."""
    setting, plan = without_norms, data.draw(plans(without_norms))
    want = setting.reference.train(setting.start, plan, setting.cohort)
    assume(not want.diverged.any())
    for _ in each_isa():
        agree(setting.engine.train(setting.start, plan, setting.cohort), want)


@settings(max_examples=30)
@given(data=st.data())
def test_drawn_combinations_with_exits(exits: Setting, data: st.DataObject) -> None:
    plan = data.draw(plans(exits, DEPTHS))
    want = exits.reference.train(exits.start, plan, exits.cohort)
    assume(not want.diverged.any())
    for _ in each_isa():
        agree(exits.engine.train(exits.start, plan, exits.cohort), want)


def test_what_training_returns_can_be_evaluated(setting: Setting) -> None:
    ratios = (0.2, 1.0, 0.6)
    jobs = tuple(Job(client, setting.units(ratio, client), (Segment(0.2),)) for client, ratio in enumerate(ratios))
    models = setting.engine.train(setting.start, Plan(jobs), setting.cohort).submodels
    own = [numpy.arange(client, COUNT) for client in range(3)]
    want = setting.reference.evaluate(models, own, "train")
    agree_on_evaluation(setting.engine.evaluate(models, own, "train"), want)
