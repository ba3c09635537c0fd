"""FedPer: which layers are a client's own, what is averaged, kept and sent, and its limits."""

import numpy
import pytest
import torch

from fedlps.errors import InputError
from fedlps.methods import METHODS
from fedlps.models import ZOO, chain
from fedlps.program import initial_parameters
from fedlps.recipe.own_layers import OwnLayers
from fedlps.trace import derive
from tests.methods.widths import costs
from tests.recipe.federations import federation, outcome_of, round_of, submodels
from tests.running import contents, model_of, tiny

HEAD = slice(20, 35)  # of the federation's model: three rows of four weights, three biases


def built(**parameters):
    fed = federation(method="fedper")
    recipe = METHODS["fedper"]
    return fed, recipe.build(recipe.parameters(**parameters), fed.config)


def names(program, mask) -> list[str]:
    return [own.name for own in program.parameters if mask[own.offset : own.offset + own.size].all()]


def test_which_layers_are_own() -> None:
    """Both linear layers of the MNIST network; of one with a single linear layer, that and the last norm."""
    mnist = derive(ZOO["mnist_cnn"]((1, 28, 28), 10), (1, 28, 28))
    mask = OwnLayers(None).mask(mnist)
    assert int(mask.sum()) == 320 * 50 + 50 + 50 * 10 + 10
    assert mask[-16_560:].all()
    steps = [
        ["conv", 4, 3, 1, 1],
        ["norm"],
        ["relu"],
        ["conv", 5, 3, 1, 1],
        ["norm"],
        ["relu"],
        ["flatten"],
        ["linear", 3],
    ]
    normed = derive(chain((1, 4, 4), steps), (1, 4, 4))
    mask = OwnLayers(None).mask(normed)
    assert int(mask.sum()) == 2 * 5 + 5 * 16 * 3 + 3
    assert mask[-(2 * 5 + 5 * 16 * 3 + 3) :].all()
    assert int(OwnLayers(2).mask(normed).sum()) == int(mask.sum()) + 4 * 5 * 9 + 5
    linear = derive(ZOO["mlp"]((1, 2, 2), 3, hidden=[6, 5]), (1, 2, 2))
    assert names(linear, ~OwnLayers(None).mask(linear)) == names(linear, torch.arange(linear.size) < 30)


def test_the_server_averages_the_base() -> None:
    """Section 14's numbers: bases 1 and 3, heads 7 and 9; and with its own head each client goes on."""
    fed, method = built()
    received = torch.from_numpy(initial_parameters(fed.program, fed.config.seed)) + 5
    round_ = round_of(fed, clients=(0, 1), parameters=received)
    models = [torch.full((35,), value, dtype=torch.float64) for value in (1.0, 3.0)]
    models[0][HEAD], models[1][HEAD] = 7, 9
    outcome = outcome_of(fed, round_, models=submodels(fed, [([0, 1, 2, 3], own) for own in models]))
    method.evaluation.remember(fed, outcome)
    after = method.aggregation(fed, outcome, method.upload(fed, outcome))
    assert (after[:20] - 2).abs().max() < 1e-12
    assert torch.equal(after[HEAD], received[HEAD]), "nobody sent a head"
    following = round_of(fed, 1, (0, 1, 2), parameters=after)
    jobs = method.objective(fed, following, method.download(fed, following)).jobs
    for job, head in zip(jobs, (7, 9, received[HEAD] - 5), strict=True):
        assert torch.equal(job.start[:20], after[:20])
        torch.testing.assert_close(job.start[HEAD], torch.zeros(15).double() + head)
    assert fed.store.get_client(0, "layers")["parameters"].size == 15
    assert [(cost.bytes_up, cost.bytes_down) for cost in costs(fed, method, following)] == [(4 * 20, 4 * 20)] * 3


def test_without_own_layers_it_is_fedavg(tmp_path) -> None:
    plain = tiny(tmp_path / "fedavg", method="fedavg")
    empty = tiny(tmp_path / "empty", {"method.layers": 0}, "fedper")
    numpy.testing.assert_array_equal(model_of(empty.directory), model_of(plain.directory))
    for name in ("test_global", "flops_paper", "flops_executed", "bytes_up", "bytes_down", "time_simulated"):
        numpy.testing.assert_array_equal(empty.metrics[name], plain.metrics[name])
    numpy.testing.assert_allclose(empty.metrics["test_last"], empty.metrics["test_global"], rtol=1e-12)
    own = tiny(tmp_path / "own", method="fedper")
    assert not numpy.array_equal(model_of(own.directory), model_of(plain.directory))
    numpy.testing.assert_array_equal(own.metrics["flops_paper"], plain.metrics["flops_paper"])
    numpy.testing.assert_array_equal(own.metrics["flops_executed"], plain.metrics["flops_executed"])
    assert "test_best" not in own.metrics


def test_with_own_layers_only_all_train_alone(tmp_path) -> None:
    alone = contents(tiny(tmp_path / "local", method="local").directory)
    run = tiny(tmp_path / "own", {"method.layers": 2}, "fedper")
    assert (run.metrics["bytes_up"] == 0).all()
    fed = contents(run.directory)
    assert fed["metric", "train_loss"] == alone["metric", "train_loss"]
    assert fed["metric", "train_accuracy"] == alone["metric", "train_accuracy"]


@pytest.mark.parametrize("method", ["fedper", "fedrep"])
def test_more_layers_than_there_are(tmp_path, method) -> None:
    with pytest.raises(InputError, match=r"^method\.layers: got 3, but the model has 2; allowed: 0 to 2$"):
        tiny(tmp_path / "run", {"method.layers": 3}, method)
    assert not (tmp_path / "run").exists()
