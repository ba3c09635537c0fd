"""Oort: utilities, scores, the pacer, who is drawn; otherwise it is FedAvg."""

import math
from dataclasses import replace

import numpy
import pytest

from fedlps.errors import InputError
from fedlps.methods import METHODS
from fedlps.recipe import selection, utility
from tests.recipe.federations import federation, outcome_of, round_of
from tests.running import model_of, tiny


def build(overrides: dict[str, object] | None = None, clients: int = 4, **given: float):
    fed = federation(overrides, clients=clients, method="oort")
    recipe = METHODS["oort"]
    return fed, recipe.build(recipe.parameters(**given), fed.config)


def test_utility_of_a_client() -> None:
    for losses, want in (((1, 2, 2), 5.196152), ((3,), 3), ((0.5,) * 8, 4)):
        assert utility.utility(sum(loss**2 for loss in losses), len(losses)) == pytest.approx(want, abs=1e-6)


def test_scores() -> None:
    away = utility.scores(numpy.ones(3), numpy.array([1.0, 5, 9]), 10, 0.95) - 0.001 / 0.001
    normed = (1 - 0.999) / max(0.001, 1e-4)
    numpy.testing.assert_allclose(away + 1 - normed, [0.479853, 0.214597, 0.159951], atol=1e-6)
    got = utility.scores(numpy.array([4.0, 2, 1]), numpy.array([1.0, 2, 4]), 5, 0.95)
    numpy.testing.assert_allclose(got, [1.401178, 0.617231, 0.200922], atol=1e-6)
    slowed = got * utility.speed_factor(numpy.array([20.0, 5, 5]), 10, 2)
    numpy.testing.assert_allclose(slowed, [0.350295, *got[1:]], atol=1e-6)
    clipped = utility.scores(numpy.arange(1.0, 41), numpy.ones(40), 2, 0.5)
    assert (clipped[20:] == clipped[20]).all()
    assert clipped[19] < clipped[20]


def test_slow_clients_count_less() -> None:
    factors = utility.speed_factor(numpy.array([5.0, 10, 20, 40]), 10, 2)
    assert factors.tolist() == [1, 1, 0.25, 0.0625]
    assert utility.speed_factor(numpy.array([5.0, 1e9]), math.inf, 2).tolist() == [1, 1]
    seconds = numpy.array([9.0, 1, 8, 2, 7, 3, 6, 4, 5, 10])
    assert utility.preferred_seconds(seconds, 10) == 2
    assert utility.preferred_seconds(seconds, 99.9) == 10
    assert utility.preferred_seconds(seconds, 100) == math.inf


def test_exploration_falls() -> None:
    chooser = build()[1].selection
    shares = [chooser.share_explored(round_) for round_ in range(1, 6)]
    numpy.testing.assert_allclose(shares, [0.882, 0.86436, 0.847073, 0.830131, 0.813529], atol=1e-6)
    assert chooser.share_explored(74) > 0.2
    assert chooser.share_explored(75) == 0.2


def test_the_pacer() -> None:
    chooser = replace(build()[1].selection, window=2)
    assert chooser.paced(10, numpy.array([4.0, 4, 3, 3])) == 15
    assert chooser.paced(10, numpy.array([3.0, 3, 4, 4])) == 10
    assert chooser.paced(10, numpy.array([4.0, 4, 3])) == 10, "only every second round"
    assert chooser.paced(98, numpy.array([4.0, 4, 3, 3])) == 100


def test_who_may_be_drawn() -> None:
    known, values = numpy.array([7, 3, 5, 1]), numpy.array([1.0, 0.99, 0.93, 0.5])
    assert utility.candidates(known, values, 1, 0.95)[0].tolist() == [7, 3], "cut off at 0.95 of 0.99"
    assert utility.candidates(known, values, 2, 0.95)[0].tolist() == [7, 3, 5]
    assert utility.candidates(known, values, 4, 0.95)[0].tolist() == [7, 3, 5, 1], "the last if there are fewer"


def test_choice_and_memory() -> None:
    """Eight clients, four a round: half of them known after the first round."""
    fed, method = build({"fraction": 0.5}, clients=8)
    chooser = method.selection
    first = chooser.choose(fed, 0)
    assert first.tolist() == selection.draw(0, 0, 8, 0.5).tolist()
    round_ = round_of(fed, clients=first.tolist())
    outcome = outcome_of(fed, round_, dropped=[3])
    outcome.result.probes["squared_losses"] = [[1.0, 2.0, 6.0, 100.0]] * 4
    chooser.observe(fed, outcome)
    table = fed.store.get_tensor(utility.TABLE)
    for position, client in enumerate(first.tolist()):
        if position == 3:
            assert table[client, :2].tolist() == [0, 0], "its upload was lost"
        else:
            assert table[client, 0] == pytest.approx(9), "three steps of the first epoch: sqrt(9 / 9) * 9"
            assert table[client, 1] == 1
            assert table[client, 2] == outcome.costs[position].seconds
    assert (table[:, 3] == 9).all()
    for number in range(1, 5):
        chosen = chooser.choose(fed, number)
        assert len(set(chosen.tolist())) == 4
        assert chosen.tolist() == chooser.choose(fed, number).tolist()
        exploited = math.floor(4 * (1 - chooser.share_explored(number + 1)))
        assert sum(client in first[:3] for client in chosen) >= exploited
    table[:, 1] = 1
    table[:, 0] = [100, 100, 100, 100, 1, 1, 1, 1]
    fed.store.put_tensor(utility.TABLE, table)
    assert sorted(chooser.choose(fed, 1).tolist()) == [0, 1, 2, 3], "none is unknown: all are exploited"


def test_who_took_part_too_often_is_not_exploited_again() -> None:
    times = numpy.array([3.0, 9, 4, 7, 0, 8, 7, 1, 2, 7])
    assert utility.refused(times, 0).tolist() == []
    assert sorted(utility.refused(times, 7).tolist()) == [1, 5]
    assert utility.refused(times, 2).tolist() == [1, 5, 3], "at most three of ten clients, those who were most often"
    fed, method = build({"fraction": 0.5}, clients=8, blacklist=2)
    table = numpy.column_stack([numpy.ones(8), numpy.ones(8), numpy.ones(8), numpy.full(8, 9.0), numpy.arange(8.0)])
    fed.store.put_tensor(utility.TABLE, table)
    for number in range(1, 30):
        assert not {6, 7} & set(method.selection.choose(fed, number).tolist()), "two of eight"
    _, plain = build({"fraction": 0.5}, clients=8)
    assert any({6, 7} & set(plain.selection.choose(fed, number).tolist()) for number in range(1, 30))
    fed, method = build({"fraction": 1.0}, clients=8, blacklist=2)
    fed.store.put_tensor(utility.TABLE, table)
    assert sorted(method.selection.choose(fed, 1).tolist()) == [*range(8)], "there are no others to fill up with"


def test_more_start_than_are_needed() -> None:
    fed, method = build({"fraction": 0.5}, clients=8, over_commit=1.3)
    first = method.selection.choose(fed, 0)
    assert first.tolist() == selection.draw(0, 0, 8, 1.0)[:5].tolist(), "5.2"
    outcome = outcome_of(fed, round_of(fed, clients=first.tolist()))
    costs = [replace(cost, seconds=own) for cost, own in zip(outcome.costs, (5, 9, 4, 3, 2), strict=True)]
    outcome = replace(outcome, costs=tuple(costs))
    outcome.result.probes["squared_losses"] = [[1.0, 2.0, 6.0]] * 5
    assert method.duration(fed, outcome) == 5
    assert method.upload(fed, outcome).positions == (0, 2, 3, 4)
    method.selection.observe(fed, outcome)
    table = fed.store.get_tensor(utility.TABLE)
    assert table[first, utility.TIMES].tolist() == [1, 0, 1, 1, 1]
    assert table[first[1], utility.LAST] == 0, "its work was in vain"
    assert len(method.selection.choose(fed, 1)) == 5
    everyone = build({"fraction": 1.0}, clients=8, over_commit=1.3)
    assert len(everyone[1].selection.choose(everyone[0], 0)) == 8, "there are no more"


def test_a_run_with_over_commitment_and_blacklist(tmp_path) -> None:
    options = {"clients": 8, "rounds": 4, "method.over_commit": 1.5, "method.blacklist": 1}
    own, other = (tiny(tmp_path / name, given, "oort") for name, given in (("own", options), ("plain", {"clients": 8})))
    assert own.metrics["flops_paper"][-1] == 1.5 * other.metrics["flops_paper"][-1], "six start for four"
    assert not numpy.array_equal(model_of(own.directory), model_of(other.directory))


def test_everybody_taking_part_is_fedavg(tmp_path) -> None:
    own = tiny(tmp_path / "oort", {"fraction": 1.0, "rounds": 3}, "oort")
    other = tiny(tmp_path / "fedavg", {"fraction": 1.0, "rounds": 3}, "fedavg")
    numpy.testing.assert_allclose(model_of(own.directory), model_of(other.directory), rtol=1e-5, atol=1e-6)
    assert own.metrics["flops_paper"].tolist() == other.metrics["flops_paper"].tolist()
    assert (own.metrics["bytes_up"] - own.metrics["bytes_down"]).tolist() == [16, 32, 48], "one loss per client"


def test_it_chooses_otherwise_than_fedavg(tmp_path) -> None:
    own = tiny(tmp_path / "oort", {"rounds": 3}, "oort")
    other = tiny(tmp_path / "fedavg", {"rounds": 3}, "fedavg")
    assert not numpy.array_equal(model_of(own.directory), model_of(other.directory))


@pytest.mark.parametrize(
    "bad", ["exploration=1.5", "cutoff=0", "percentile=101", "window=0", "explore=1", "over_commit=0.9", "blacklist=-1"]
)
def test_bad_parameters(tmp_path, bad) -> None:
    with pytest.raises(InputError, match=bad.split("=")[0]):
        tiny(tmp_path / "run", {f"method.{bad.split('=')[0]}": float(bad.split("=")[1])}, "oort")
