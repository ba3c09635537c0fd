"""FedAvg: plain averaging of full-width SGD, and its cost."""

from dataclasses import replace

import numpy
import torch
from torch import nn

from fedlps.cost import Rates, Work, local_cost
from fedlps.engine.cohort import cohort
from fedlps.methods import METHODS
from fedlps.models import ZOO, chain
from fedlps.recipe.federation import Outcome, Round
from fedlps.run.resolve import resolve
from fedlps.trace import derive
from tests.engine.cases import executor_of, samples
from tests.recipe.federations import SHAPE, STEPS, federation
from tests.running import model_of, tiny


def test_the_mean_of_plain_sgd_weighted_by_data() -> None:
    """Two clients with 100 and 300 samples, trained by torch's own SGD."""
    fed = federation({"momentum": 0.5, "weight_decay": 0.01}, method="fedavg")
    data = samples(SHAPE, 3, 400)
    program, executor = executor_of(chain(SHAPE, STEPS), SHAPE, data)
    fed = replace(fed, program=program, executor=executor)
    own = (numpy.arange(100), numpy.arange(100, 400))
    start = torch.from_numpy(numpy.random.default_rng(0).normal(size=program.size))
    round_ = Round(0, 0.1, numpy.array([1, 0]), own, numpy.ones(2), numpy.ones(2), start)
    recipe = METHODS["fedavg"]
    method = recipe.build(recipe.parameters(), fed.config)
    batches = cohort(0, 0, round_.clients, own, epochs=2, batch=32)
    plan = method.objective(fed, round_, method.download(fed, round_))
    result = executor.train(start, plan, batches)
    outcome = Outcome(round_, result, method.accounting(fed, round_, plan), numpy.zeros(2, dtype=bool), plan, result)
    got = method.aggregation(fed, outcome, method.upload(fed, outcome))

    trained = []
    for position in range(2):
        module = chain(SHAPE, STEPS).double()
        nn.utils.vector_to_parameters(start.clone(), module.parameters())
        optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5, weight_decay=0.01)
        for batch in batches.batches(position):
            optimiser.zero_grad()
            inputs, labels = data.batch(batch)
            nn.functional.cross_entropy(module(torch.from_numpy(inputs)), torch.from_numpy(labels)).backward()
            optimiser.step()
        trained.append(nn.utils.parameters_to_vector(module.parameters()).detach())
    assert not torch.allclose(trained[0], trained[1], atol=1e-3)
    torch.testing.assert_close(got, 0.25 * trained[0] + 0.75 * trained[1], rtol=1e-12, atol=1e-12)


def test_flops_of_a_client_on_mnist() -> None:
    """The paper's Table I: 2.788128e12 for 100 rounds of 10 clients with 180 training samples each."""
    program = derive(ZOO["mnist_cnn"]((1, 28, 28), 10), (1, 28, 28))
    cost = local_cost(program, (10, 20, 50), Work(180, 32, 5, pattern_sent=False), 1.0, Rates())
    assert cost.flops_paper == 2_788_128_000
    assert cost.bytes_up == cost.bytes_down == 4 * 21_840


def test_it_tests_the_global_model_only(tmp_path) -> None:
    run = tiny(tmp_path / "run", {"rounds": 2}, "fedavg")
    assert "test_global" in run.metrics
    assert not {"test_last", "test_best"} & set(run.metrics)
    assert run.metrics["ratio_mean"].tolist() == [1, 1]
    assert (run.metrics["bytes_up"] == run.metrics["bytes_down"]).all(), "no pattern travels"


def test_fedlps_at_full_width_is_fedavg(tmp_path) -> None:
    """Every unit is kept and L_pr is off: nothing is left of FedLPS but the personal models."""
    overrides = {"ratio.rule": 1, "objective.mu": 0}
    own = tiny(tmp_path / "fedlps", overrides)
    other = tiny(tmp_path / "fedavg", overrides, "fedavg")
    numpy.testing.assert_array_equal(model_of(own.directory), model_of(other.directory))
    for name in ("test_global", "train_loss", "train_accuracy", "flops_paper", "flops_executed"):
        numpy.testing.assert_array_equal(own.metrics[name], other.metrics[name])
    pulled = tiny(tmp_path / "pulled", {"ratio.rule": 1})
    assert not numpy.array_equal(model_of(pulled.directory), model_of(other.directory))


def test_the_presets_flops_are_the_papers() -> None:
    config = resolve("mnist", [], "fedavg", {name: entry.parameters for name, entry in METHODS.items()}, ZOO)
    shards = config.split.model_dump()
    training = int(0.9 * shards["shards_per_client"] * shards["shard_size"])
    program = derive(ZOO["mnist_cnn"]((1, 28, 28), 10), (1, 28, 28))
    work = Work(training, config.batch, config.epochs)
    per_client = local_cost(program, (10, 20, 50), work, 1.0, Rates()).flops_paper
    assert per_client * round(config.clients * config.fraction) * config.rounds == 2_788_128_000_000
