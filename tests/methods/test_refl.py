"""REFL: weights of late updates, the target, who comes first, and when a late update arrives."""

from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.errors import InputError
from fedlps.methods import METHODS
from fedlps.recipe import late, selection
from fedlps.recipe.availability import Cycles
from fedlps.recipe.upload import Uploads
from tests.recipe.federations import federation, outcome_of, round_of, submodels
from tests.running import model_of, tiny


def build(clients: int = 4, **given: object):
    fed = federation(clients=clients, method="refl")
    recipe = METHODS["refl"]
    return fed, recipe.build(recipe.parameters(**given), fed.config)


def with_seconds(outcome, *seconds: float):
    costs = [replace(cost, seconds=own) for cost, own in zip(outcome.costs, seconds, strict=True)]
    return replace(outcome, costs=tuple(costs))


def test_weights_of_late_updates() -> None:
    for age, relative, want in (
        (1, 1, 0.546242), (1, 0.5, 0.462714), (3, 1, 0.383742), (3, 0.25, 0.239920), (5, 1, 0.329576),
    ):  # fmt: skip
        got = late.stale_weights(numpy.array([age, 9.0]), numpy.array([relative, 1.0]), 0.35)
        assert got[0] == pytest.approx(want, abs=1e-6)
    ages, deviation = numpy.array([1.0, 4.0]), numpy.array([0.3, 0.7])
    assert late.stale_weights(ages, deviation, 0).tolist() == [1 / 2, 1 / 5]
    numpy.testing.assert_allclose(late.stale_weights(ages, deviation, 1), 1 - numpy.exp([-3 / 7, -1]))


def test_a_step_with_late_updates() -> None:
    fresh = [torch.tensor(own, dtype=torch.float64) for own in ([1.0, 0], [0, 1.0])]
    stale = [torch.tensor(own, dtype=torch.float64) for own in ([1.0, 1.0], [-1.0, 1.0])]
    numpy.testing.assert_allclose(late.deviations(fresh, stale), [0.111111, 0.555556], atol=1e-6)
    weights = late.stale_weights(numpy.array([1.0, 2]), late.deviations(fresh, stale), 0.35)
    numpy.testing.assert_allclose(weights, [0.388444, 0.437909], atol=1e-6)
    step = late.folded_in(fresh, stale, numpy.array([1.0, 2]), 0.35)
    numpy.testing.assert_allclose(step, [0.336312, 0.646187], atol=1e-6)


def test_the_target() -> None:
    for pending, want in ((0, 10), (3, 7), (12, 1)):
        soon = numpy.array([[client, 5.0, 0] for client in range(pending)] + [[99, 50.0, 0]])
        assert late.target(10, soon, 5.0) == want


def test_the_expected_length_of_a_round() -> None:
    fed, method = build()
    want = ((100, 100), (60, 70), (80, 77.5))
    for number, (seconds, length) in enumerate(want):
        outcome = with_seconds(outcome_of(fed, round_of(fed, number)), seconds, 1, 2, seconds)
        method.selection.observe(fed, outcome)
        assert late.clock(fed) == (sum(own for own, _ in want[: number + 1]), length)


def test_the_least_available_come_first() -> None:
    availability = numpy.array([0.9, 0.1, 0.5, 0.1])
    order = numpy.array([2, 3, 0, 1])
    assert late.prioritized(order, availability, 2).tolist() == [3, 1]
    assert late.prioritized(order, availability, 3).tolist() == [3, 1, 2]


def test_a_late_update_arrives_when_its_time_has_passed() -> None:
    """Four clients; the round waits for half of them. One is late by 12 seconds: rounds of 5 s, then of 10 s."""
    fed, method = build(target=0.5)
    start = torch.zeros(35, dtype=torch.float64)

    def play(number: int, seconds: tuple[float, ...], moved: float, dropped: tuple[int, ...] = ()) -> torch.Tensor:
        round_ = round_of(fed, number, clients=range(len(seconds)), parameters=start)
        models = submodels(fed, [(range(4), torch.full((35,), moved, dtype=torch.float64))] * len(seconds))
        outcome = with_seconds(outcome_of(fed, round_, models=models, dropped=dropped), *seconds)
        assert method.duration(fed, outcome) == sorted(seconds)[(len(seconds) + 1) // 2 - 1]
        return method.aggregation(fed, outcome, method.upload(fed, outcome))

    got = play(0, (3, 5, 17, 5), 1.0)
    assert (got == 1).all()
    assert late.table(fed).tolist() == [[2, 12, 0]]
    assert late.clock(fed) == (0, 0)
    assert 2 not in method.selection.choose(fed, 1)
    assert (play(1, (5, 5), 2.0) == 2).all(), "12 seconds are left of it, the round lasts 5"
    assert late.table(fed).tolist() == [[2, 7, 0]]
    assert (play(2, (10, 10), 3.0, dropped=(0, 1)) == 0).all(), "nothing is fresh: nothing changes, and it waits"
    assert late.table(fed).tolist() == [[2, -3, 0]]
    got = play(3, (10, 10), 3.0)
    weight = 0.65 / 4 + 0.35 * (1 - numpy.exp(-1))
    numpy.testing.assert_allclose(got, (3 + 3 + weight * 1) / (2 + weight))
    assert late.table(fed).shape == (0, 3)
    assert not fed.store.clients
    assert 2 in method.selection.choose(fed, 4)


def test_who_is_late_and_diverged_leaves_nothing() -> None:
    fed, method = build(target=0.5)
    round_ = round_of(fed, 0)
    outcome = with_seconds(outcome_of(fed, round_, diverged=[2]), 1, 1, 9, 1)
    uploads = method.upload(fed, outcome)
    assert isinstance(uploads, Uploads)
    method.aggregation(fed, outcome, uploads)
    assert late.table(fed).shape == (0, 3)


def test_a_trace() -> None:
    fed = federation(clients=40)
    trace = Cycles(103, 0, 0.25, 10.0, 1.0)
    shares = numpy.mean([trace.online(fed, now) for now in numpy.linspace(0, 1, 2000)], axis=0)
    numpy.testing.assert_allclose(shares, 0.25, atol=0.02)
    share = trace.predicted(fed, 0, 1e-4, 3e-4)
    assert share.min() >= 0
    assert share.max() <= 1
    for client in range(3):
        seen = numpy.mean([trace.online(fed, now)[client] for now in numpy.linspace(1e-4, 3e-4, 500)])
        assert share[client] == pytest.approx(seen, abs=0.01)
    wrong = replace(trace, reliability=0.0)
    numpy.testing.assert_allclose(wrong.predicted(fed, 0, 1e-4, 3e-4), 1 - share)


def test_only_who_is_there_is_chosen() -> None:
    fed, method = build(clients=40, availability="trace")
    for number in range(5):
        chosen = method.selection.choose(fed, number)
        assert method.selection.availability.online(fed, 0.0)[chosen].all()
        assert len(chosen) > 1
    never = replace(method.selection, availability=replace(method.selection.availability, online_share=0.0))
    assert len(never.choose(fed, 0)) == 40, "none is there: the server waits"


def test_waiting_for_all_it_is_fedavg(tmp_path) -> None:
    own = tiny(tmp_path / "refl", {"method.target": 1, "rounds": 3}, "refl")
    other = tiny(tmp_path / "fedavg", {"rounds": 3}, "fedavg")
    numpy.testing.assert_allclose(model_of(own.directory), model_of(other.directory), rtol=1e-5, atol=1e-6)
    for name in ("flops_paper", "flops_executed", "bytes_up", "bytes_down", "time_simulated"):
        assert own.metrics[name].tolist() == other.metrics[name].tolist()
    _, method = build()
    fed = federation({"fraction": 0.5}, method="refl")
    assert method.selection.choose(fed, 3).tolist() == selection.draw(0, 3, 4, 0.5).tolist()


def test_late_updates_change_the_model_and_shorten_rounds(tmp_path) -> None:
    overrides = {"fraction": 1.0, "rounds": 5, "clients": 6, "method.target": 0.5}
    own = tiny(tmp_path / "refl", overrides, "refl")
    other = tiny(tmp_path / "all", {**overrides, "method.target": 1}, "refl")
    assert not numpy.array_equal(model_of(own.directory), model_of(other.directory))
    assert own.metrics["time_simulated"][-1] < other.metrics["time_simulated"][-1]
    assert own.metrics["flops_paper"][-1] < other.metrics["flops_paper"][-1], "who is late is not started again"


@pytest.mark.parametrize("bad", ["target=0", "beta=2", "cycle=0", "online=0"])
def test_bad_parameters(tmp_path, bad) -> None:
    name, value = bad.split("=")
    with pytest.raises(InputError, match=name):
        tiny(tmp_path / "run", {f"method.{name}": float(value)}, "refl")
