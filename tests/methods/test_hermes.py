"""Hermes: who drops which units, what the group lasso is, and how holders are averaged."""

import numpy
import torch

from fedlps.engine.plan import Hold, Job
from fedlps.methods import METHODS
from fedlps.recipe import shrinking
from fedlps.run.store import RunStore
from tests.recipe.federations import federation, outcome_of, round_of, submodels
from tests.running import model_of, tiny


def build(**given: float):
    fed = federation(method="hermes")
    recipe = METHODS["hermes"]
    return fed, recipe.build(recipe.parameters(**given), fed.config)


def units(*own: int, size: int = 4) -> torch.Tensor:
    return torch.tensor([*own, *[-1] * (size - len(own))], dtype=torch.int32)


def test_units_of_small_norm_are_dropped() -> None:
    norms = torch.tensor([*range(10, 0, -1), 5], dtype=torch.float64)
    everything = torch.cat([torch.arange(10, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)])
    counts, kept = shrinking.without_small(((10, 1), everything), norms, (10, 1), 0.1)
    assert counts == (9, 1), "a single unit stays"
    assert kept.tolist() == [*range(9), -1, 0]
    counts, kept = shrinking.without_small((counts, kept), norms, (10, 1), 0.1)
    assert counts == (8, 1)
    assert kept.tolist() == [*range(8), -1, -1, 0]
    counts, _ = shrinking.without_small(((10, 1), everything), torch.ones(11), (10, 1), 0.1)
    assert counts == (10, 1), "equal norms are not strictly below"


def test_the_gate() -> None:
    """A model must be accurate enough and large enough to lose units; nothing is stored by looking."""
    wide = 35
    for given, want in (
        ({"start": 0.5, "end": 0.5}, 3),
        ({"start": 1.0, "end": 0.5}, 4),
        ({"start": 0.5, "end": 1.0}, 4),
    ):
        fed, method = build(**given)
        right = torch.from_numpy(numpy.random.default_rng(0).normal(size=wide))
        label = int(fed.executor.executor.samples.labels[fed.split.client(0).validate][0])
        right[-3:] = -100
        right[-3 + label] = 100
        (hold,) = method.download(fed, round_of(fed, clients=[0], parameters=right))
        assert hold.counts == (want,)
        assert not fed.store.clients


def test_published_thresholds() -> None:
    """Section 18's, by data set; given ones come first."""
    published = {"mnist": (0.5, 0.5), "cifar10": (0.45, 0.3), "cifar100": (0.25, 0.3), "tinyimagenet": (0.06, 0.4)}
    recipe, config = METHODS["hermes"], federation(method="hermes").config
    for data, wanted in (published | {"digits": (0.5, 0.5)}).items():
        named = config.model_copy(update={"data": config.data.model_copy(update={"name": data})})
        own = recipe.build(recipe.parameters(), named).download
        assert (own.start, own.end) == wanted
        own = recipe.build(recipe.parameters(start=0.7, end=0.2), named).download
        assert (own.start, own.end) == (0.7, 0.2)


def test_units_that_all_hold_are_plainly_averaged_and_the_others_stand_still() -> None:
    fed, method = build()
    start = torch.arange(35.0, dtype=torch.float64)
    outcome_models = [([0, 2], torch.full((35,), value, dtype=torch.float64)) for value in (1.0, 2.0, 6.0)]
    outcome = outcome_of(fed, round_of(fed, clients=[0, 1, 2], parameters=start), models=submodels(fed, outcome_models))
    got = method.aggregation(fed, outcome, method.upload(fed, outcome))
    inside = torch.tensor([*range(4), *range(8, 12), 16, 18, 20, 22, 24, 26, 28, 30, 32, 33, 34])
    torch.testing.assert_close(got[inside], torch.full((len(inside),), 3.0, dtype=torch.float64))
    outside = torch.ones(35, dtype=torch.bool)
    outside[inside] = False
    assert torch.equal(got[outside], start[outside])


def test_norms_are_those_of_the_held_entries() -> None:
    """Weights of columns that a client does not hold count nothing for it."""
    fed, _ = build()
    fed.store.put_client(0, "units", {"counts": numpy.array([2]), "kept": units(1, 3).numpy()})
    composed = shrinking.on_own_units(fed, 0, torch.ones(35), 0)
    inside = torch.zeros(35)
    for unit in (1, 3):
        inside[[*range(4 * unit, 4 * unit + 4), 16 + unit, 20 + unit, 24 + unit, 28 + unit]] = 1
    inside[32:] = 1
    assert composed.tolist() == inside.tolist()


def test_holders_are_averaged() -> None:
    fed, method = build()
    start = torch.full((35,), 10.0, dtype=torch.float64)
    round_ = round_of(fed, clients=[0, 1], parameters=start)
    trained = [([0, 1], torch.full((35,), 2.0)), ([1, 2], torch.full((35,), 4.0))]
    outcome = outcome_of(fed, round_, models=submodels(fed, [(own, values.double()) for own, values in trained]))
    got = method.aggregation(fed, outcome, method.upload(fed, outcome))
    assert got[16:20].tolist() == [2, 3, 4, 10], "biases of the four units"
    assert got[32:].tolist() == [3, 3, 3]


def test_costs() -> None:
    """12 of 35 entries: 2 units with 4 weights and a bias each... and what of it travels."""
    fed, method = build()
    fed.store.put_client(0, "units", {"counts": numpy.array([3]), "kept": units(0, 1, 2).numpy()})
    round_ = round_of(fed, clients=[0])
    plan = method.objective(fed, round_, (Hold((2,), units(0, 1)),))
    assert [job.penalty for job in plan.jobs] == [0.001]
    (cost,) = method.accounting(fed, round_, plan)
    assert cost.bytes_down == 4 * (3 * 5 + 3 * 3 + 3)
    assert cost.bytes_up == 4 * (2 * 5 + 3 * 2 + 3) + 1, "the set has changed"
    assert cost.flops_paper == 3 * 12 * ((2 * 2 * 4 + 4) + (2 * 3 * 4 + 3)), "row masks, three batches of four"
    validation = 2 * (3 * 4 + 3 * 3)
    assert cost.flops_executed == 9 * (2 * 2 * 8 + 3 * 2 * 6) + validation
    same = Job(0, Hold((3,), units(0, 1, 2)), ())
    assert method.accounting.up(fed, round_, 0, same) == 4 * (3 * 5 + 3 * 3 + 3), "it has not"


def test_without_gate_and_penalty_it_is_plain_averaging(tmp_path) -> None:
    overrides = {"method.start": 1.1, "method.penalty": 0, "rounds": 3}
    own = tiny(tmp_path / "hermes", overrides, "hermes")
    other = tiny(tmp_path / "fedavg", {"aggregation.rule": "uniform", "rounds": 3}, "fedavg")
    numpy.testing.assert_allclose(model_of(own.directory), model_of(other.directory), rtol=1e-5, atol=1e-6)
    penalized = tiny(tmp_path / "penalized", {**overrides, "method.penalty": 0.01}, "hermes")
    assert not numpy.allclose(model_of(penalized.directory), model_of(other.directory), atol=1e-4)


def test_units_are_lost_for_good(tmp_path) -> None:
    run = tiny(tmp_path / "run", {"method.start": 0, "fraction": 1.0, "rounds": 6, "epochs": 3}, "hermes")
    with RunStore.read(run.directory) as store:
        counts = [int(store.get_client(client, "units")["counts"][0]) for client in range(4)]
    assert min(counts) < 12
    assert min(counts) >= 5, "never below the share by more than one step"
    up = numpy.diff(run.metrics["bytes_up"], prepend=0)
    assert up[-1] < up[0]
