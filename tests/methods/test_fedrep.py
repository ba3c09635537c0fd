"""FedRep: own layers first, then the shared ones; what each phase leaves alone, and what it costs."""

from dataclasses import replace

import numpy
import torch

from fedlps.cost import submodel_weights, training_flops
from fedlps.engine.cohort import cohort
from fedlps.methods import METHODS
from fedlps.recipe.federation import Federation
from fedlps.run.store import RunStore
from tests.methods.widths import costs
from tests.recipe.federations import federation, round_of
from tests.running import contents, model_of, tiny

HEAD = torch.arange(35) >= 20  # of the federation's model


def built(given: dict[str, object] | None = None, **parameters):
    fed = federation({"epochs": 5, "batch": 4, **(given or {})}, method="fedrep")
    recipe = METHODS["fedrep"]
    return fed, recipe.build(recipe.parameters(**parameters), fed.config)


def steps(epochs: int, batches: int) -> int:
    """How many of all steps train the head, where a client has so many batches."""
    fed, method = built({"epochs": epochs})
    training = (numpy.arange(4 * batches - 1),)
    round_ = replace(round_of(fed, clients=(0,)), training=training)
    (job,) = method.objective(fed, round_, method.download(fed, round_)).jobs
    head, base = job.segments
    assert torch.equal(head.trains, HEAD)
    assert torch.equal(base.trains, ~HEAD)
    assert base.steps is None
    assert not base.carry_velocity
    return head.steps


def test_two_fifths_of_the_steps_train_the_head() -> None:
    """Section 15's numbers: of 45 steps 18, of 72 steps 28."""
    assert [steps(5, 9), steps(1, 72), steps(1, 1)] == [18, 28, 0]


def trained(fed: Federation, method, *, epochs: int = 5):
    round_ = round_of(fed, clients=(1,))
    plan = method.objective(fed, round_, method.download(fed, round_))
    batches = cohort(0, 0, round_.clients, round_.training, epochs=epochs, batch=4)
    result = fed.executor.train(round_.global_parameters, plan, batches)
    return round_.global_parameters, result.submodels.parameters[0]


def test_the_other_layers_stand_still() -> None:
    fed, method = built({"momentum": 0.5})
    start, end = trained(fed, method)
    assert (start != end)[20:].all()
    assert (start != end)[:20].any()
    fed, method = built({"momentum": 0.5}, head=1)
    start, end = trained(fed, method)
    assert torch.equal(start[:20], end[:20])
    assert (start != end)[20:].all()
    fed, method = built({"momentum": 0.5}, head=0)
    start, end = trained(fed, method)
    assert torch.equal(start[20:], end[20:])
    assert (start != end)[:20].any()


def test_the_head_stays_initial_if_it_never_trains(tmp_path) -> None:
    run = tiny(tmp_path / "run", {"method.head": 0}, "fedrep")
    other = tiny(tmp_path / "other", method="fedrep")
    assert not numpy.array_equal(model_of(run.directory), model_of(other.directory))
    assert len(stored_heads(run.directory)) == 1
    assert len(stored_heads(other.directory)) > 1


def stored_heads(directory) -> set[bytes]:
    """The different own layers that clients have."""
    with RunStore.read(directory) as store:
        clients = store.clients("layers")
        assert len(clients) > 1
        return {store.get_client(client, "layers")["parameters"].tobytes() for client in clients}


def test_what_it_costs() -> None:
    """By the paper as much as FedAvg; executed, a phase has no products for what it leaves alone."""
    fed, method = built()
    round_ = round_of(fed, clients=(0,))
    (cost,) = costs(fed, method, round_)
    assert cost.flops_paper == 3 * 5 * 3 * 4 * (2 * (16 + 12) + 4 + 3)
    lengths = [4, 4, 1] * 5  # of the batches of 9 samples
    weights = submodel_weights(fed.program, (4,))
    head, base = (
        training_flops(fed.program, weights, [False, True]),
        training_flops(fed.program, weights, [True, False]),
    )
    assert (head, base) == (2 * 16 + 4 * 12, 4 * 16 + 4 * 12)
    assert cost.flops_executed == sum(lengths[:6]) * head + sum(lengths[6:]) * base
    assert cost.bytes_up == cost.bytes_down == 4 * 20


def test_it_sends_what_fedper_sends(tmp_path) -> None:
    runs = [tiny(tmp_path / name, {"rounds": 2}, name) for name in ("fedrep", "fedper")]
    for name in ("bytes_up", "bytes_down", "flops_paper", "time_simulated"):
        numpy.testing.assert_array_equal(runs[0].metrics[name], runs[1].metrics[name])
    assert contents(runs[0].directory)["tensor", "global"] != contents(runs[1].directory)["tensor", "global"]
