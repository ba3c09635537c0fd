"""FedMP: the E-UCB agent, the units of the largest weights, and the recovery of the rest."""

import math
from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.errors import InputError
from fedlps.recipe.eucb import Agent
from fedlps.run.store import RunStore
from tests.methods.widths import COSTS, aggregated, built, costs, kept, started, trained_to
from tests.running import model_of, tiny


class Drawing:
    """A generator that always draws the same number."""

    def __init__(self, draw: float) -> None:
        self.draw = draw

    def random(self) -> float:
        return self.draw


def test_the_confidence_bounds_of_the_specification() -> None:
    """Leaf A pulled first and third, rewards 1.0 and 0.2; leaf B second, 0.5."""
    agent = Agent((0.2, 0.6, 1.0), (0.3, 0.7, 0.4), (1.0, 0.5, 0.2))
    assert agent.values(0.9) == pytest.approx([0.558011 + 1.049572, 0.5 + 1.488436], abs=2e-6)
    assert agent.choose(0.9, Drawing(0.25)) == pytest.approx(0.7), "B"
    assert Agent((0.2, 0.6, 1.0), (0.7,), (-3.0,)).choose(0.9, Drawing(0.5)) == pytest.approx(0.4), "unpulled first"


def test_a_pull_cuts_its_leaf_unless_that_is_small() -> None:
    agent = Agent((0.2, 1.0)).started(3.0)
    assert agent == Agent((0.2, 1.0), (), (), 3.0, 1), "no loss before it: no reward, no pull"
    agent = agent.pulled(0.5, 0.0, 2.0, 0.05)
    assert agent == Agent((0.2, 0.5, 1.0), (0.5,), (0.0,), 2.0, 2)
    assert agent.values(0.98)[0] == math.inf, "the pull belongs to the upper part"
    assert agent.values(0.98)[1] == 0
    agent = agent.pulled(0.53, 1.5, 1.0, 0.05)
    assert agent.edges == (0.2, 0.5, 0.53, 1.0)
    assert agent.pulled(0.51, 0.0, 1.0, 0.05).edges == agent.edges, "0.03 wide"
    assert agent.pulled(0.2, 0.0, 1.0, 0.05).edges == agent.edges, "no empty leaves"
    assert agent.leaf(1.0) == 2
    assert Agent.from_arrays(agent.to_arrays()) == agent
    new = Agent.from_arrays(Agent((0.2, 1.0)).to_arrays())
    assert (new.edges, new.ratios, new.rewards) == ((0.2, 1.0), (), ())
    assert math.isnan(new.loss)


def test_the_reward_is_the_loss_lost_over_the_distance_from_the_mean_time() -> None:
    fed, method = built("fedmp", (8,))
    round_ = started(fed, method, (1, 1 / 2, 1 / 4, 1))
    assert ((round_.ratios >= 0.2) & (round_.ratios < 1)).all()
    outcome = trained_to(fed, method, round_, (1, 1, 1, 1))
    seconds = (1.0, 2.0, 6.0, 3.0)
    outcome = replace(outcome, costs=tuple(replace(c, seconds=s) for c, s in zip(outcome.costs, seconds, strict=True)))
    outcome.result.losses[:] = (2.0, 3.0, 4.0, 5.0)
    outcome.result.diverged[1] = True
    method.ratio.observe(fed, outcome)
    outcome.result.losses[:] = (1.5, 2.0, 5.0, 1.0)
    outcome.result.diverged[1] = False
    outcome.dropped[0] = True
    method.ratio.observe(fed, outcome)
    agents = [Agent.from_arrays(fed.store.get_client(client, "bandit")) for client in range(4)]
    assert [agent.rewards for agent in agents] == [(), (), ((4.0 - 5.0) / 3,), ((5.0 - 1.0) / 1e-6,)]
    assert [agent.taken for agent in agents] == [1, 1, 2, 2]
    assert agents[2].ratios == (round_.ratios[2],)
    assert [agent.loss for agent in agents] == [2, 2, 5, 1]
    again = method.ratio.choose(fed, round_.clients, round_.capabilities)
    assert (again != round_.ratios).all()
    assert (again == method.ratio.choose(fed, round_.clients, round_.capabilities)).all()


def test_the_units_are_those_of_the_largest_weights_and_the_rest_is_recovered() -> None:
    fed, method = built("fedmp", (4,))
    vector = torch.ones(fed.program.size).double()
    vector[:16] = torch.tensor([1.0, 3.0, -3.0, 2.0]).double().repeat_interleave(4)
    round_ = started(fed, method, (1, 1), ratios=numpy.array([0.5, 0.25]), global_parameters=vector)
    assert kept(fed, method, round_) == [[[1, 2]], [[1]]]
    uneven = replace(round_, training=(numpy.arange(10), numpy.arange(30)))
    weight, bias, *_ = aggregated(fed, method, uneven, (5, 9))
    assert bias.tolist() == [1, 0.25 * 5 + 0.75 * 9, 0.25 * 5 + 0.75 * 1, 1]
    assert weight[:, 0].tolist() == [1, 8, 0.25 * 5 - 0.75 * 3, 2]


def test_recovery_of_one_client() -> None:
    """w = (1, 2, 3, 4), units 1 and 3 come back as 5 and 7."""
    fed, method = built("fedmp", (4,))
    vector = torch.zeros(fed.program.size).double()
    vector[:16] = torch.tensor([0.0, 1.0, 0.0, 1.0]).double().repeat_interleave(4)
    vector[16:20] = torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
    round_ = started(fed, method, (1,), ratios=numpy.array([0.5]), global_parameters=vector)
    outcome = trained_to(fed, method, round_, (0,))
    outcome.result.submodels.parameters[0, 8:10] = torch.tensor([5.0, 7.0]).double()
    assert method.aggregation(fed, outcome, method.upload(fed, outcome))[16:20].tolist() == [1, 5, 3, 7]


def test_the_cost_of_half_the_units() -> None:
    """As of every submodel, and the server's sum over all entries; the capability makes it slower, not smaller."""
    fed, method = built("fedmp", (6,))
    round_ = started(fed, method, (1 / 4, 1), ratios=numpy.array([0.5, 0.5]))
    slow, fast = costs(fed, method, round_)
    assert (slow.flops_paper, slow.flops_executed) == (3 * 69 * 12, 102 * 9 + 51)
    assert slow.bytes_up == slow.bytes_down == 4 * 27
    assert slow.flops_paper == fast.flops_paper
    assert slow.seconds > fast.seconds


def test_at_ratio_1_it_is_fedavg(tmp_path) -> None:
    own = tiny(tmp_path / "own", {"method.lowest": 1, "rounds": 3}, "fedmp")
    other = tiny(tmp_path / "fedavg", {"rounds": 3}, "fedavg")
    numpy.testing.assert_array_equal(model_of(own.directory), model_of(other.directory))
    for name in COSTS:
        if name != "flops_executed":
            numpy.testing.assert_array_equal(own.metrics[name], other.metrics[name])
    thin = tiny(tmp_path / "thin", {"rounds": 3}, "fedmp")
    assert not numpy.allclose(model_of(thin.directory), model_of(other.directory), atol=1e-3)


def test_an_agent_remembers_all_its_pulls(tmp_path) -> None:
    run = tiny(tmp_path / "run", {"fraction": 1.0, "rounds": 3}, "fedmp")
    with RunStore.read(run.directory) as store:
        for client in range(4):
            agent = Agent.from_arrays(store.get_client(client, "bandit"))
            assert agent.taken == 3
            assert len(agent.ratios) == 2
            assert all(agent.rewards)
            assert agent.ratios[0] in agent.edges
            assert all(0.2 <= ratio < 1 for ratio in agent.ratios)


@pytest.mark.parametrize("given", [{"method.lowest": 0}, {"method.discount": 1.5}, {"method.leaf": 0}])
def test_bad_parameters(tmp_path, given) -> None:
    with pytest.raises(InputError, match=next(iter(given))):
        tiny(tmp_path / "run", given, "fedmp")
