"""FedP3: which layers a client contributes, what it receives of the others, its head and its slice."""

import numpy
import pytest
import torch

from fedlps.errors import InputError
from fedlps.methods import METHODS
from fedlps.models import chain
from fedlps.recipe import layer_subsets as subsets
from fedlps.run.store import RunStore
from tests.engine.cases import executor_of, samples
from tests.recipe.federations import SHAPE, federation, outcome_of, round_of, submodels
from tests.running import model_of, tiny


def build(**given: object):
    fed = federation(method="fedp3")
    recipe = METHODS["fedp3"]
    return fed, recipe.build(recipe.parameters(**given), fed.config)


def test_groups_of_layers() -> None:
    got = [subsets.group_numbers(client, 100, 4, 2) for client in (0, 60, 99)]
    assert got == [(0, 1), (2, 3), (3, 0)]
    assert subsets.group_numbers(99, 100, 4, 3) == (3, 0, 1)
    assert subsets.group_numbers(30, 100, 4, 1) == (1,)
    assert subsets.group_numbers(30, 100, 2, 3) == (0, 1), "no more than there are"
    steps = [["flatten"], *[["linear", 2]] * 6]
    program, _ = executor_of(chain(SHAPE, steps), SHAPE, samples(SHAPE, 2, 4))
    assert subsets.contributed(program, 0, 4, 1) == (0, 1, 5), "five hidden layers: groups of 2, 1, 1, 1; the output"
    assert subsets.contributed(program, 3, 4, 3) == (0, 1, 2, 4, 5)


def test_server_pruning() -> None:
    kept = subsets.largest(torch.tensor([5.0, 1, 4, 2, 3, 6, 9, 8, 7, 10]), 0.9)
    assert kept.tolist() == [True, False, *[True] * 8]
    assert subsets.largest(torch.ones(4), 0.5).tolist() == [True, True, False, False]


def test_what_a_client_starts_from() -> None:
    """Two hidden layers, one group each; client 0 contributes the first."""
    fed, _ = build()
    program, _ = executor_of(
        chain(SHAPE, [["flatten"], ["linear", 5], ["linear", 4], ["linear", 3]]), SHAPE, samples(SHAPE, 3, 4)
    )
    fed = type(fed)(fed.config, program, fed.split, fed.executor, fed.store, fed.dtype)
    layers = subsets.LayerSubsets(1, 0.9, own_head=True, sliced=True)
    received = torch.arange(1.0, program.size + 1, dtype=torch.float64)
    round_ = round_of(fed, clients=[0], ratios=0.5, parameters=received)
    (hold,) = layers.holds(fed, round_)
    assert hold.counts == (2, 2)
    assert (~hold.mask).nonzero().flatten().tolist() == [25, 26], "a tenth of 20 weights, the smallest"
    head = slice(49, 64)
    own = numpy.arange(15.0)
    fed.store.put_client(0, "head", {"parameters": own})
    start = layers.start(fed, round_, 0)
    assert start[[25, 26]].tolist() == [0, 0]
    assert start[head].tolist() == own.tolist()
    assert torch.equal(start[27:49], received[27:49])
    assert layers.down(fed, round_, 0, None) == 4 * (64 - 2)


@pytest.mark.parametrize(("weighted", "want"), [(False, 3.0), (True, 3.5)])
def test_contributors_are_averaged_and_heads_stay(monkeypatch, weighted: bool, want: float) -> None:
    monkeypatch.setattr(subsets.LayerSubsets, "weight", lambda own, fed, outcome, position: (1.0, 3.0)[position])
    fed, method = build(weighted=weighted)
    round_ = round_of(fed, clients=[0, 1], parameters=torch.full((35,), 10.0, dtype=torch.float64))
    models = submodels(fed, [([0, 1, 2, 3], torch.full((35,), value).double()) for value in (2.0, 4.0)])
    outcome = outcome_of(fed, round_, models=models)
    got = method.aggregation(fed, outcome, method.upload(fed, outcome))
    assert got.tolist() == pytest.approx([want] * 35)
    method.evaluation.remember(fed, outcome)
    heads = [fed.store.get_client(client, "head")["parameters"].tolist() for client in (0, 1)]
    assert heads == [[2.0] * 15, [4.0] * 15]
    own = method.evaluation.composed(fed, 1, got, 0)
    assert (own[20:32].view(3, 4)[:, 0] == 4).all(), "its own head on the units that it holds"
    assert own[32:].tolist() == [4, 4, 4]
    assert own[:4].tolist() == pytest.approx([want] * 4)


def test_who_has_no_head_yet_is_tested_with_the_global_model() -> None:
    fed, method = build()
    parameters = torch.arange(35.0, dtype=torch.float64)
    assert torch.equal(method.evaluation.composed(fed, 2, parameters, 0), parameters)
    fed.store.put_client(2, "head", {"parameters": numpy.ones(15)})
    assert not torch.equal(method.evaluation.composed(fed, 2, parameters, 0), parameters)


def test_layers_are_counted_with_the_head() -> None:
    fed, method = build(weighted=True)
    assert method.evaluation.weight(fed, outcome_of(fed, round_of(fed)), 0) == 2


def test_costs() -> None:
    fed, method = build()
    round_ = round_of(fed, clients=[0], ratios=0.5)
    plan = method.objective(fed, round_, method.download(fed, round_))
    (cost,) = method.accounting(fed, round_, plan)
    assert cost.bytes_up == 4 * (2 * 5 + 3 * 2 + 3)
    assert cost.bytes_down == 4 * 35
    assert cost.flops_paper == 3 * 12 * ((2 * 2 * 4 + 4) + (2 * 3 * 4 + 3))
    assert cost.flops_executed == 9 * (2 * 2 * 8 + 3 * 2 * 6)


def test_random_widths() -> None:
    fed, method = build(local_pruning="uniform")
    round_ = round_of(fed, clients=[0, 2], ratios=1.0)
    plan = method.objective(fed, round_, method.download(fed, round_))
    widths = [job.segments[0].passes[0].widths for job in plan.jobs]
    assert [len(own) for own in widths] == [3, 3], "one per step"
    assert {count for own in widths for (count,) in own} <= {2, 3, 4}
    assert widths[0] != widths[1]


def test_everything_contributed_and_shared_is_plain_averaging(tmp_path) -> None:
    overrides = {"capability.levels": [1.0], "method.server_share": 1.0, "method.own_head": False, "rounds": 3}
    own = tiny(tmp_path / "fedp3", overrides, "fedp3")
    other = tiny(tmp_path / "fedavg", {"aggregation.rule": "uniform", "rounds": 3}, "fedavg")
    numpy.testing.assert_allclose(model_of(own.directory), model_of(other.directory), rtol=1e-5, atol=1e-6)
    assert own.metrics["flops_paper"].tolist() == other.metrics["flops_paper"].tolist()
    assert own.metrics["test_last"].tolist() == pytest.approx(other.metrics["test_global"].tolist())


def test_a_head_of_its_own(tmp_path) -> None:
    overrides = {"model.hidden": [8, 6], "rounds": 3, "method.layers": "lower"}
    own = tiny(tmp_path / "own", overrides, "fedp3")
    other = tiny(tmp_path / "fedavg", {"model.hidden": [8, 6], "rounds": 3}, "fedavg")
    assert not numpy.array_equal(model_of(own.directory), model_of(other.directory))
    with RunStore.read(own.directory) as store:
        heads = [store.get_client(client, "head")["parameters"] for client in store.clients("head")]
    assert len(heads) >= 2
    assert {head.shape for head in heads} == {(70,)}


def test_a_model_without_hidden_layers(tmp_path) -> None:
    with pytest.raises(InputError, match="hidden layers"):
        tiny(tmp_path / "run", {"model.hidden": []}, "fedp3")
    with pytest.raises(InputError, match="server_share"):
        tiny(tmp_path / "run", {"method.server_share": 0}, "fedp3")
