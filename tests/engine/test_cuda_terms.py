"""The CUDA engine's control flow: every term that it carries, against the definition; and those that it does not."""

from collections.abc import Callable
from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.engine.cuda.network import why_not
from fedlps.engine.cuda.terms import why_not as why_not_plan
from fedlps.engine.plan import Hold, Job, Learned, Pass, Plan, Pull, Segment
from fedlps.trace import derive
from tests.engine.agreement import agree
from tests.engine.changes import halve
from tests.engine.drawn_jobs import start_of
from tests.engine.drawn_terms import SHAPE, Setting, branched, normed, plain
from tests.engine.on_cuda import PROBES, TOLERANCE, beside

Term = Callable[[Setting, Job], Job]
UNITS = 18


@pytest.fixture(scope="module", params=[plain, normed])
def setting(request: pytest.FixtureRequest) -> Setting:
    return beside(Setting.of(request.param))


def optimised(**terms) -> Term:
    return lambda setting, job: replace(job, segments=(Segment(**{"lr": 0.2, **terms}),))


def learned(kappa: float, strength: float, reduction: str) -> Term:
    """From redundancies so close to each other that most steps change the selection."""

    def term(setting: Setting, job: Job) -> Job:
        d = 0.3 + 1e-3 * torch.randn(
            setting.program.units, dtype=torch.float64, generator=torch.manual_seed(job.client)
        )
        return replace(job, hold=Hold(job.hold.counts, Learned(d, strength, kappa, reduction)))

    return term


def pulled(*numbers: int) -> Term:
    """Towards vectors that clients share or have alone."""

    def term(setting: Setting, job: Job) -> Job:
        return replace(job, pulls=tuple(Pull(0.3, VECTORS[number](setting, job)) for number in numbers))

    return term


VECTORS = {
    0: lambda setting, job: setting.start,
    1: lambda setting, job: setting.other(job.client),
}


def both(*terms: Term) -> Term:
    def term(setting: Setting, job: Job) -> Job:
        for one in terms:
            job = one(setting, job)
        return job

    return term


def only(client: int, term: Term) -> Term:
    return lambda setting, job: term(setting, job) if job.client == client else job


CARRIED: dict[str, Term] = {
    "momentum": optimised(momentum=0.8),
    "momentum of one": only(1, optimised(momentum=0.8)),
    "weight decay": optimised(weight_decay=0.1),
    "a clip that holds": optimised(clip=0.05),
    "a clip of one": only(0, optimised(clip=0.05)),
    "a clip that does not": optimised(clip=1e6),
    "all of the optimiser": optimised(momentum=0.5, weight_decay=0.05, clip=0.1),
    "other rates": lambda setting, job: replace(job, segments=(Segment(0.1 * (job.client + 1)),)),
    "two steps": optimised(steps=2),
    "two passes": optimised(passes=(Pass(), Pass(weight=0.5))),
    "a weighted pass": optimised(passes=(Pass(weight=-0.5),)),
    "a pass that learns from another": optimised(passes=(Pass(weight=0.0), Pass(teacher=0))),
    "a pass of one": only(1, optimised(passes=(Pass(), Pass(teacher=0), Pass(weight=0.1, teacher=1)))),
    "no steps": optimised(steps=0),
    "no segment": lambda setting, job: replace(job, segments=()),
    "a pull": pulled(0),
    "pulls": pulled(0, 1),
    "pulls of one": only(2, pulled(1, 0)),
    "a start": lambda setting, job: replace(job, start=setting.other(3)),
    "a start of one": only(1, lambda setting, job: replace(job, start=setting.other(3))),
    "scale": lambda setting, job: replace(job, scale=tuple(1.5 + group for group in range(len(job.hold.counts)))),
    "scale of one": only(1, lambda setting, job: replace(job, scale=(0.5,) * len(job.hold.counts))),
    "all units": lambda setting, job: replace(job, hold=setting.units(1)),
    "one unit": lambda setting, job: replace(job, hold=setting.units(0.01)),
    "unequal units": lambda setting, job: replace(job, hold=setting.units((1, 0.5, 0.01)[job.client])),
    "learned": learned(0, 1, "mean"),
    "learned, summed": learned(0, 0.3, "sum"),
    "learned by gates": learned(2, 0.3, "mean"),
    "learned by one alone": only(0, learned(2, 1, "mean")),
    "learned by gates of one": both(learned(0, 1, "mean"), only(1, learned(2, 1, "mean"))),
    "FedLPS, everything": both(optimised(momentum=0.5, weight_decay=0.01, clip=0.3), learned(0.5, 1, "sum"), pulled(0)),
    "a depth of all there is": lambda setting, job: replace(job, hold=replace(job.hold, depth=1)),
    "a velocity carried from nowhere": optimised(momentum=0.5, carry_velocity=True),
}


@pytest.mark.parametrize("name", CARRIED)
def test_carried_terms_agree(setting: Setting, name: str) -> None:
    jobs = tuple(
        CARRIED[name](setting, Job(client, setting.units(0.6, client), (Segment(0.2),))) for client in (2, 0, 1)
    )
    plan = Plan(jobs, PROBES)
    agree(setting.engine.train(setting.start, plan, setting.cohort), train_by_definition(setting, plan), TOLERANCE)


def train_by_definition(setting: Setting, plan: Plan):
    return setting.reference.train(setting.start, plan, setting.cohort)


def test_a_client_may_have_several_jobs(setting: Setting) -> None:
    jobs = [Job(client, setting.units(ratio), (Segment(0.2),)) for client, ratio in ((0, 1), (1, 0.5), (0, 0.3))]
    plan = Plan((*jobs, replace(jobs[0], start=setting.other(1), destination="personal")), PROBES)
    agree(setting.engine.train(setting.start, plan, setting.cohort), train_by_definition(setting, plan), TOLERANCE)


NOT_CARRIED: dict[str, Term] = {
    "5 pulls": pulled(0, 1, 0, 1, 0),
    "a mask of weights": lambda setting, job: replace(job, hold=replace(job.hold, mask=setting.mask(0.5))),
    "a depth of 2": lambda setting, job: replace(job, hold=replace(job.hold, depth=2)),
    "a group penalty": lambda setting, job: replace(job, penalty=0.1),
    "2 segments": lambda setting, job: replace(job, segments=(Segment(0.1, steps=1), Segment(0.1))),
    "a pass on another batch": optimised(passes=(Pass(), Pass(batch=1))),
    "a pass at another point": optimised(passes=(Pass(), Pass(at=((0, 0.1),)))),
    "a step without its first pass": optimised(passes=(Pass(widths=((1, 1, 1), None)), Pass())),
    "learned units in other passes than a plain one": both(
        learned(0, 1, "mean"), optimised(passes=(Pass(weight=2.0),))
    ),
    "entries that stand still": lambda setting, job: optimised(trains=setting.mask(0.5))(setting, job),
    "a change of weights at the end": optimised(after=halve),
}


@pytest.mark.parametrize("name", NOT_CARRIED)
def test_other_terms_are_named(setting: Setting, name: str) -> None:
    job = Job(0, setting.units(0.6), (Segment(0.2),))
    assert why_not_plan(Plan((job,))) == ""
    plan = Plan((job, NOT_CARRIED[name](setting, job)))
    assert why_not_plan(plan) == name
    with pytest.raises(ValueError, match=f"^plan: the CUDA engine does not carry {name}$"):
        setting.engine.train(setting.start, plan, setting.cohort)


class Twisted(Segment):
    """A term of a later version."""


def test_unknown_terms_are_named(setting: Setting) -> None:
    job = Job(0, setting.units(0.6), (Twisted(0.1),))
    assert why_not_plan(Plan((job,))) == "the term Twisted"
    assert why_not_plan(Plan((replace(job, hold=Hold((3,), "all"), segments=()),))) == "the units str"


def test_other_probes_are_named() -> None:
    assert why_not_plan(Plan((), PROBES)) == ""
    assert why_not_plan(Plan((), frozenset({"kept", "gradients"}))) == "the probe gradients"


def test_models_that_no_launches_are_made_of_are_named() -> None:
    assert why_not(derive(branched(), SHAPE)) == "the model has 3 exits, the CUDA engine runs one"
    positions = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 2), torch.nn.Flatten())
    assert why_not(derive(positions, (1, 5, 3))) == "the model's classes are positions of a convolution"
    unknown = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    assert why_not(derive(unknown, (3,))).startswith("the model is no chain, ")


@pytest.mark.parametrize(
    ("precision", "least", "most"), [("fp32", 0, 1e-6), ("tf32", 1e-4, 1e-3), ("bf16", 1e-3, 5e-3)]
)
def test_a_step_is_wrong_by_what_its_operands_drop(precision, least: float, most: float) -> None:
    """Relative, of what the step changes; the median, for a window's maximum may lie elsewhere now and then."""
    setting = beside(Setting.of(plain, torch.float32), precision=precision)
    errors = []
    for seed in range(5):
        start = start_of(setting.program, seed, torch.float32)
        jobs = tuple(Job(client, setting.units(0.6, client), (Segment(0.05, steps=1),)) for client in range(3))
        plan = Plan(jobs, frozenset({"parameters"}))
        results = (executor.train(start, plan, setting.cohort) for executor in (setting.engine, setting.reference))
        got, want = (torch.stack(result.probes["parameters"]) - start for result in results)
        errors += ((got - want).norm(dim=1) / want.norm(dim=1)).tolist()
    assert least <= numpy.median(errors) <= most


def test_the_start_is_one_of_its_own(setting: Setting) -> None:
    """The tests' vectors differ, else terms that read them would say nothing."""
    assert not torch.equal(setting.start, setting.other(3))
    assert setting.program.units == UNITS
    assert not torch.equal(start_of(setting.program, 1), start_of(setting.program, 2))
