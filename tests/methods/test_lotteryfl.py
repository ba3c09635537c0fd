"""LotteryFL: when and what is pruned, the start anew, the mean over holders, and its cost."""

from dataclasses import replace
from itertools import pairwise

import numpy
import pytest
import torch

from fedlps.errors import InputError
from fedlps.methods import METHODS
from fedlps.program import initial_parameters
from fedlps.recipe import accounting, lottery, personal_mask
from fedlps.run.store import RunStore
from tests.recipe.federations import federation, outcome_of, round_of, submodels
from tests.running import model_of, tiny

ALWAYS = -1.0  # a threshold that every accuracy exceeds


def test_weights_left_by_the_percentile_rule() -> None:
    """100 distinct weights: each pruning removes ceil(0.1 (n - 1)) of those that are left."""
    weights = torch.randperm(100, generator=torch.Generator().manual_seed(0)).to(torch.float64) + 1
    mask, left = torch.ones(100, dtype=torch.bool), []
    for _ in range(7):
        before = mask
        mask = lottery.pruned(torch.where(mask, weights, 0), mask, (slice(0, 100),), 0.1)
        assert not (mask & ~before).any()
        left.append(int(mask.sum()))
    assert left == [90, 81, 73, 65, 58, 52, 46]
    assert sorted(weights[mask].tolist()) == list(range(55, 101))


def test_equal_weights_are_not_below_themselves() -> None:
    mask = torch.ones(6, dtype=torch.bool)
    assert lottery.pruned(torch.ones(6), mask, (slice(0, 4),), 0.1).all()


def test_the_rates_of_a_client_that_is_always_accurate_enough() -> None:
    fed = federation(method="lotteryfl")
    tickets = lottery.Tickets(ALWAYS, 0.5, 0.1)
    rates, masks = [], []
    for number in range(9):
        # other parameters every round, as training would leave them; a quarter of 16 weights is removed at most
        parameters = torch.from_numpy(numpy.random.default_rng(number).normal(size=35))
        round_ = round_of(fed, number, clients=(0,), parameters=parameters)
        holds = tickets.held()(fed, round_)
        plan = lottery.rewound()(fed, round_, holds)
        outcome = outcome_of(fed, round_)
        outcome.result.probes["mask"] = [holds[0].mask]
        tickets.observe(fed, outcome)
        fed.store.put_client(0, personal_mask.PART, personal_mask.ENDED.arrays(outcome, 0))
        first = torch.from_numpy(initial_parameters(fed.program, fed.config.seed))
        start = first if number < 7 else parameters
        assert torch.equal(plan.jobs[0].start, torch.where(holds[0].mask, start, 0))
        rates.append(float(tickets.choose(fed, numpy.array([0]), numpy.ones(1))[0]))
        masks.append(holds[0].mask)
    assert rates == pytest.approx([0.9, 0.81, 0.729, 0.6561, 0.59049, 0.531441, 0.478297, 0.478297, 0.478297], abs=1e-6)
    assert all(not (later & ~earlier).any() for earlier, later in pairwise(masks))
    assert all(mask[16:].all() for mask in masks), "biases and the output layer stay"


def test_the_gate_asks_for_more_than_its_threshold() -> None:
    fed = federation(method="lotteryfl")
    round_ = round_of(fed)
    assert all(hold.mask.all() for hold in lottery.Tickets(1.0, 0.5, 0.1).held()(fed, round_))
    asked = fed.executor.asked[-1]
    assert asked == (4, [fed.split.client(client).validate.tolist() for client in range(4)], "train")
    assert not any(hold.mask.all() for hold in lottery.Tickets(ALWAYS, 0.5, 0.1).held()(fed, round_))


def test_the_mean_over_those_that_hold_a_weight() -> None:
    """w = 1; masks (1,0), (1,1), (0,0); values (3,.), (5,7): (4, 7); where nobody holds it, w stays."""
    fed = federation(method="lotteryfl")
    method = METHODS["lotteryfl"].build(METHODS["lotteryfl"].parameters(), fed.config)
    parameters = torch.ones(35, dtype=torch.float64)
    round_ = round_of(fed, clients=(0, 1, 2), parameters=parameters)
    masks = torch.ones((3, 35), dtype=torch.bool)
    masks[0, 1] = masks[2, 0] = masks[2, 1] = False
    masks[:, 2] = False
    values = torch.zeros((3, 35), dtype=torch.float64)
    values[0, 0], values[1, 0], values[1, 1] = 3, 5, 7
    for client in range(3):
        fed.store.put_client(client, personal_mask.PART, {"mask": numpy.packbits(masks[client].numpy())})
    models = submodels(fed, [((0, 1, 2, 3), vector) for vector in values])
    outcome = outcome_of(fed, round_, models=models)
    plan = method.objective(fed, round_, personal_mask.held(personal_mask.all_ones)(fed, round_))
    outcome = replace(outcome, plan=plan)
    got = method.aggregation(fed, outcome, method.upload(fed, outcome))
    assert got[:3].tolist() == [4, 7, 1]
    assert not got[3:].any(), "the rest is averaged over all"


def test_without_pruning_it_is_fedavg_with_equal_weights(tmp_path) -> None:
    own = tiny(tmp_path / "own", {"rounds": 3, "method.start": 1.1}, "lotteryfl")
    other = tiny(tmp_path / "other", {"rounds": 3, "aggregation.rule": "uniform"}, "fedavg")
    numpy.testing.assert_allclose(model_of(own.directory), model_of(other.directory), rtol=1e-5, atol=1e-7)
    assert own.metrics["test_last"].tolist() == own.metrics["test_global"].tolist()


def test_pruning_changes_the_model_and_is_remembered(tmp_path) -> None:
    own = tiny(tmp_path / "own", {"rounds": 3, "fraction": 1.0, "method.start": 0}, "lotteryfl")
    other = tiny(tmp_path / "other", {"rounds": 3, "fraction": 1.0}, "fedavg")
    assert not numpy.array_equal(model_of(own.directory), model_of(other.directory))
    with RunStore.read(own.directory) as store:
        rates = [store.get_client(client, lottery.PART)["rate"][0] for client in store.clients(lottery.PART)]
        masks = [store.get_client(client, personal_mask.PART)["mask"] for client in store.clients(personal_mask.PART)]
    assert len(masks) == 4
    assert any(rate < 1 for rate in rates)
    assert all(any(abs(rate - 0.9**pruned) < 1e-12 for pruned in range(4)) for rate in rates)


def test_costs_of_a_round_with_pruning() -> None:
    """14 of 16 maskable weights are left: 14 + 19 values and two bytes of mask up, everything down."""
    fed = federation(method="lotteryfl")
    tickets = lottery.Tickets(ALWAYS, 0.5, 0.1)
    round_ = round_of(fed, clients=(0,))
    plan = lottery.rewound()(fed, round_, tickets.held()(fed, round_))
    first = personal_mask.all_ones
    own = accounting.Accounting(
        personal_mask.sent_bytes(first), personal_mask.received_bytes(first), besides=tickets.gate_flops
    )
    (cost,) = own(fed, round_, plan)
    assert cost.bytes_up == 4 * (14 + 19) + 2
    assert cost.bytes_down == 4 * 35
    assert cost.flops_paper == 3 * (2 * 14 + 4 + 2 * 12 + 3) * 12
    forward = 2 * (16 + 12)
    assert cost.flops_executed == (2 * 16 * 2 + 2 * 12 * 3) * 9 + forward * 1, "one validation sample"
    fed.store.put_client(0, lottery.PART, {"rate": numpy.array([0.478297])})
    fed.store.put_client(0, personal_mask.PART, {"mask": numpy.packbits(plan.jobs[0].hold.mask.numpy())})
    (later,) = own(fed, round_, lottery.rewound()(fed, round_, tickets.held()(fed, round_)))
    assert (later.bytes_up, later.bytes_down) == (4 * (14 + 19), 4 * (14 + 19))
    assert later.flops_executed == cost.flops_executed - forward


@pytest.mark.parametrize(("key", "value"), [("method.start", -0.1), ("method.end", 0), ("method.share", 1)])
def test_parameters_out_of_range(tmp_path, key, value) -> None:
    with pytest.raises(InputError, match=key):
        tiny(tmp_path / "run", {key: value}, "lotteryfl")


def test_a_model_without_hidden_layers(tmp_path) -> None:
    with pytest.raises(InputError, match="before the output layer"):
        tiny(tmp_path / "run", {"model.hidden": []}, "lotteryfl")
