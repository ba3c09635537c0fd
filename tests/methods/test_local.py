"""Local: every client alone, nothing shared, nothing sent."""

import numpy
import torch
from torch import nn

from fedlps.engine.cohort import cohort
from fedlps.methods import METHODS
from fedlps.models import chain
from fedlps.program import initial_parameters
from fedlps.recipe.federation import Outcome
from fedlps.simulation import uploading
from tests.recipe.federations import SHAPE, STEPS, federation, round_of
from tests.running import model_of, tiny


def test_two_rounds_against_torch() -> None:
    """A client goes on where it was; who was not selected stands still; the global model does, too."""
    fed = federation({"momentum": 0.5, "weight_decay": 0.01}, method="local")
    recipe = METHODS["local"]
    method = recipe.build(recipe.parameters(), fed.config)
    initial = torch.from_numpy(initial_parameters(fed.program, fed.config.seed))
    expected = dict.fromkeys(range(4), initial)
    for number, clients in enumerate(((0, 2), (2, 3))):
        round_ = round_of(fed, number, clients, parameters=initial)
        batches = cohort(0, number, round_.clients, round_.training, epochs=2, batch=4)
        plan = method.objective(fed, round_, method.download(fed, round_))
        jobs = fed.executor.train(initial, plan, batches)
        costs = method.accounting(fed, round_, plan)
        assert [(cost.bytes_up, cost.bytes_down) for cost in costs] == [(0, 0)] * 2
        outcome = Outcome(round_, uploading(plan, jobs), costs, numpy.zeros(2, dtype=bool), plan, jobs)
        assert torch.equal(method.aggregation(fed, outcome, method.upload(fed, outcome)), initial)
        method.evaluation.remember(fed, outcome)
        for position, client in enumerate(clients):
            expected[client] = alone(fed, expected[client], batches.batches(position))
    for client in (0, 2, 3):
        torch.testing.assert_close(
            torch.from_numpy(fed.store.get_client(client, "last")["parameters"]),
            expected[client],
            rtol=1e-12,
            atol=1e-12,
        )
    assert fed.store.get_client(1, "last") is None


def alone(fed, start, batches):
    module = chain(SHAPE, STEPS).double()
    nn.utils.vector_to_parameters(start.clone(), module.parameters())
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5, weight_decay=0.01)
    for batch in batches:
        optimiser.zero_grad()
        inputs, labels = fed.executor.executor.batch(batch, "train")
        nn.functional.cross_entropy(module(inputs), labels).backward()
        optimiser.step()
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def test_nothing_is_shared(tmp_path) -> None:
    run = tiny(tmp_path / "run", {"aggregation.noise": 0.1}, "local")
    other = tiny(tmp_path / "fedavg", method="fedavg")
    shape = model_of(run.directory).shape
    assert shape == model_of(other.directory).shape
    assert (run.metrics["bytes_up"] == 0).all()
    assert (run.metrics["bytes_down"] == 0).all()
    assert len(set(run.metrics["test_global"].tolist())) == 1, "the initial model, round after round"
    numpy.testing.assert_array_equal(run.metrics["flops_paper"], other.metrics["flops_paper"])
    assert run.metrics["test_last"][-1] > run.metrics["test_global"][-1]
