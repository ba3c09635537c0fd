"""PruneFL: which weights are worth their time, the stage before round 1, and its cost."""

import numpy
import pytest
import torch

from fedlps.errors import InputError
from fedlps.methods import METHODS
from fedlps.recipe import capability, consensus, pruned_alone, reconfiguration
from fedlps.recipe.reconfiguration import Reconfiguration, above_percentile, worth_adding, worthwhile
from fedlps.run.store import RunStore
from tests.recipe.federations import federation, outcome_of, round_of
from tests.running import model_of, tiny

NEVER = {"method.initial_rounds": 0, "method.interval": 0}
RULE = Reconfiguration(5, 0.3, 10_000, False)


def test_additions_by_hand() -> None:
    """6 gained in 4: 1.5 < 3, then 1.8 < 2, then 1.8333 > 1."""
    assert worth_adding(numpy.array([3.0, 2, 1]), numpy.ones(3), 6, 4) == 2
    assert worth_adding(numpy.array([3.0, 2, 1.9]), numpy.ones(3), 6, 4) == 3
    assert worth_adding(numpy.array([1.5]), numpy.ones(1), 6, 4) == 0, "what is equal is not added"
    assert worth_adding(numpy.zeros(0), numpy.zeros(0), 6, 4) == 0


def test_a_new_mask_by_hand() -> None:
    """Of five current weights two are kept for sure; the other five entries compete by importance."""
    weights = torch.tensor([9.0, -8, 0.1, 0.2, 0.3, 0, 0, 1], dtype=torch.float64)
    mask = torch.tensor([True] * 5 + [False, False, True])
    importance = torch.tensor([2.0, 3, 0, 2, 1, 3, 0, 1], dtype=torch.float64)
    got = worthwhile(weights, mask, importance, (slice(0, 7),), 0.6, [1.0], 2.0)
    assert got.tolist() == [True, True, False, True, False, True, False, True]
    slow = worthwhile(weights, mask, importance, (slice(0, 7),), 0.6, [4.0], 2.0)
    assert slow.tolist() == [True, True, False, False, False, True, False, True]


def test_layers_compete_by_their_time() -> None:
    weights = torch.tensor([5.0, 0, 0, 5, 0, 0], dtype=torch.float64)
    importance = torch.tensor([1.0, 3, 3, 1, 3, 3], dtype=torch.float64)
    places = (slice(0, 3), slice(3, 6))
    got = worthwhile(weights, weights != 0, importance, places, 0.0, [1.0, 4.0], 0.0)
    assert got.tolist() == [True, True, True, True, False, False]


def test_the_published_codes_percentile() -> None:
    importance = torch.arange(1, 11, dtype=torch.float64)
    assert above_percentile(importance, (slice(0, 10),), 0.3).tolist() == [False] * 3 + [True] * 7
    fed = federation(method="prunefl")
    rule = Reconfiguration(5, 0.4, 10_000, True)
    parameters, mask = torch.ones(35, dtype=torch.float64), torch.ones(35, dtype=torch.bool)
    counts = [
        int(rule.mask(fed, parameters, mask, torch.arange(35, dtype=torch.float64), 3, number)[:16].sum())
        for number in (0, 1, 2, 9)
    ]
    assert counts == [10, 13, 14, 15], "of 16 importances 0 to 15, above 6, 3, 1.5 and a little"


def test_seconds_of_a_weight_by_hand() -> None:
    """6 operations per sample, 3 steps of 4 samples; 4 bytes. Together with the rest they are those of all."""
    fed = federation(method="prunefl")
    times, rest = reconfiguration.entry_times(fed, 3)
    assert times == pytest.approx([6 * 12 / 727e9 + 4 / 14e6], rel=1e-12)
    assert rest == pytest.approx(3 * 12 * (4 + 2 * 12 + 3) / 727e9 + 4 * 19 / 14e6, rel=1e-12)


def test_when_it_is_due() -> None:
    assert [number for number in range(13) if RULE.due(number)] == [1, 6, 11]
    assert not any(Reconfiguration(0, 0.3, 1, False).due(number) for number in range(13))


def test_importance_sums_squares_weighted_by_data() -> None:
    gradients = [torch.tensor([1.0, -2]), torch.tensor([3.0, 0])]
    assert reconfiguration.squared(gradients, [10, 2]).tolist() == [28, 40]


def test_without_any_change_of_mask_it_is_fedavg(tmp_path) -> None:
    own = tiny(tmp_path / "own", {"rounds": 3, **NEVER}, "prunefl")
    other = tiny(tmp_path / "other", {"rounds": 3}, "fedavg")
    numpy.testing.assert_array_equal(model_of(own.directory), model_of(other.directory))
    assert own.metrics["density"].tolist() == [1, 1, 1]
    assert own.metrics["first_stage_flops_paper"].tolist() == [0, 0, 0]
    for name in ("flops_paper", "flops_executed", "bytes_up", "bytes_down"):
        numpy.testing.assert_array_equal(own.metrics[name], other.metrics[name])


def test_the_mask_holds_and_changes(tmp_path) -> None:
    overrides = {"rounds": 3, "method.initial_rounds": 2}
    run = tiny(tmp_path / "run", overrides, "prunefl")
    first, second, third = run.metrics["density"]
    assert first < 1
    assert second != first
    assert third == second
    assert (run.metrics["first_stage_flops_paper"] > 0).all()
    with RunStore.read(run.directory) as store:
        packed = store.get_tensor(consensus.MASKS)
    model = model_of(run.directory)
    mask = numpy.unpackbits(packed[0], count=len(model)).astype(bool)
    assert mask[768:].all()
    assert mask[:768].mean() == pytest.approx(third)
    assert not model[~mask].any()
    assert model[mask].all()


def test_the_stage_before_round_1_is_of_a_fast_client_and_ends_early() -> None:
    """A rule that keeps all changes no density: five rounds are enough."""
    fed = federation({"capability.levels": "high", "rounds": 20}, clients=6, method="prunefl")
    trained: list[int] = []
    train = fed.executor.executor.train

    def noting(parameters, plan, cohort):
        trained.append(int(cohort.clients[0]))
        return train(parameters, plan, cohort)

    fed.executor.executor.train = noting
    start = round_of(fed).global_parameters
    got = pruned_alone.pruned_alone(Reconfiguration(5, 0.0, 1, False), 10, 1.0, 4)(fed, start)
    speeds = capability.speeds(fed.config, 0)
    assert trained == [trained[0]] * 5
    assert speeds[trained[0]] == speeds.max()
    assert consensus.server_masks(fed)[0].all()
    assert (got != start).any()
    assert fed.store.get_tensor("first_stage").tolist() == [5 * 3 * 63 * 12, 5 * (2 * 16 * 2 + 2 * 12 * 3) * 9]
    half = pruned_alone.pruned_alone(RULE, 0, 0.5, 4)(fed, start)
    assert int((half[:16] != 0).sum()) == 8
    assert torch.equal(half[16:], start[16:])


def test_costs_by_hand() -> None:
    """6 of 16 maskable weights are left, and 19 others; in round 1 the gradients and the mask travel up."""
    fed = federation(method="prunefl")
    method = METHODS["prunefl"].build(METHODS["prunefl"].parameters(), fed.config)
    mask = torch.ones(35, dtype=torch.bool)
    consensus.keep_masks(fed, [mask.clone()])
    mask[:10] = False
    consensus.keep_masks(fed, [mask])
    up, down = [], []
    for number in (1, 2):
        round_ = round_of(fed, number)
        plan = method.objective(fed, round_, method.download(fed, round_))
        assert plan.probes == ({"gradients"} if number == 1 else set())
        cost = method.accounting(fed, round_, plan)[0]
        up.append(cost.bytes_up)
        down.append(cost.bytes_down)
        assert cost.flops_paper == 3 * (2 * 6 + 4 + 2 * 12 + 3) * 12
        assert cost.flops_executed == (2 * 16 * 2 + 2 * 12 * 3) * 9
        consensus.keep_masks(fed, [mask])
    assert up == [4 * 25 + 4 * 35 + 2, 4 * 25]
    assert down == [4 * 25 + 2, 4 * 25]


def test_without_any_upload_nothing_changes() -> None:
    fed = federation(method="prunefl")
    mask = torch.ones(35, dtype=torch.bool)
    mask[:10] = False
    consensus.keep_masks(fed, [mask])
    method = METHODS["prunefl"].build(METHODS["prunefl"].parameters(), fed.config)
    round_ = round_of(fed, 1, parameters=mask.double())
    outcome = outcome_of(fed, round_, dropped=range(4))
    assert torch.equal(method.aggregation(fed, outcome, method.upload(fed, outcome)), mask.double())
    assert torch.equal(consensus.server_masks(fed)[0], mask)


@pytest.mark.parametrize(
    ("key", "value"),
    [("method.share", 1.1), ("method.interval", -1), ("method.half_life", 0), ("method.initial_density", 0)],
)
def test_parameters_out_of_range(tmp_path, key, value) -> None:
    with pytest.raises(InputError, match=key):
        tiny(tmp_path / "run", {key: value}, "prunefl")


def test_a_model_without_hidden_layers(tmp_path) -> None:
    with pytest.raises(InputError, match="before the output layer"):
        tiny(tmp_path / "run", {"model.hidden": []}, "prunefl")
