"""Per-FedAvg: a step by hand in both variants, which batches it takes, its limits, and the adapted copies."""

from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.engine.cohort import cohort
from fedlps.methods import METHODS
from fedlps.randomness import Purpose
from fedlps.recipe import objective
from tests.engine.cases import cohort_of
from tests.methods.quadratic import moved, quadratic
from tests.methods.widths import costs
from tests.recipe.federations import federation, round_of
from tests.running import model_of, tiny


def built(given: dict[str, object] | None = None, **parameters):
    fed = federation(given, method="per-fedavg")
    recipe = METHODS["per-fedavg"]
    return fed, recipe.build(recipe.parameters(**parameters), fed.config)


def test_a_step_by_hand(monkeypatch) -> None:
    """Section 16's numbers, for which the estimate of the second order is exact."""
    fed, method = quadratic(monkeypatch, "per-fedavg", 2, alpha=0.1)
    assert moved(fed, method, 0, lr=0.5) == pytest.approx([0.9], rel=1e-14)
    fed, method = quadratic(monkeypatch, "per-fedavg", 2, alpha=0.1, gradient="hessian-free")
    assert moved(fed, method, 0, lr=0.5) == pytest.approx([0.81], rel=1e-12)
    fed, method = quadratic(monkeypatch, "per-fedavg", 2, alpha=0)
    assert moved(fed, method, 0, lr=0.5) == pytest.approx([1.0], rel=1e-14)


def test_without_looking_ahead_it_is_fedavg_on_the_next_batches() -> None:
    """The last step of an epoch takes the epoch's first batch."""
    fed, method = built(alpha=0)
    round_ = round_of(fed, clients=(2,))
    holds = method.download(fed, round_)
    own = round_.training[0]
    batches = [own[0:4].tolist(), own[4:8].tolist(), own[8:].tolist()]
    start = round_.global_parameters
    ahead = fed.executor.train(start, method.objective(fed, round_, holds), cohort_of(batches))
    plain = fed.executor.train(
        start, objective.cross_entropy()(fed, round_, holds), cohort_of([*batches[1:], batches[0]])
    )
    assert torch.equal(ahead.submodels.parameters, plain.submodels.parameters)


def test_of_one_batch_it_is_fedavg(tmp_path) -> None:
    """Pairs of the same batch, alpha 0."""
    one: dict[str, object] = {"batch": 1000}
    plain = tiny(tmp_path / "fedavg", one, "fedavg")
    runs = [tiny(tmp_path / str(alpha), {**one, "method.alpha": alpha}, "per-fedavg") for alpha in (0, 0.1)]
    numpy.testing.assert_array_equal(model_of(runs[0].directory), model_of(plain.directory))
    assert not numpy.array_equal(model_of(runs[1].directory), model_of(plain.directory))
    numpy.testing.assert_array_equal(runs[1].metrics["flops_paper"], 2 * plain.metrics["flops_paper"])
    numpy.testing.assert_array_equal(runs[1].metrics["bytes_up"], plain.metrics["bytes_up"])
    assert "test_best" not in runs[1].metrics


@pytest.mark.parametrize(("gradient", "passes"), [("first-order", 2), ("hessian-free", 4)])
def test_what_it_costs(gradient, passes) -> None:
    fed, method = built(gradient=gradient)
    (cost,) = costs(fed, method, round_of(fed, clients=(0,)))
    assert cost.flops_paper == 2 * 3 * 3 * 4 * (2 * (16 + 12) + 4 + 3)
    assert cost.flops_executed == passes * 9 * (4 * 16 + 6 * 12)
    assert cost.bytes_up == cost.bytes_down == 4 * 35


@pytest.mark.parametrize("adapt_steps", [None, 1])
def test_copies_are_adapted_before_they_are_tested(adapt_steps) -> None:
    """All epochs at lr, or one step of rate alpha; every client on its own data, in an order of its own."""
    fed, method = built({"epochs": 2, "momentum": 0.5}, alpha=0.2, adapt_steps=adapt_steps)
    received = round_of(fed).global_parameters
    tested = method.evaluation.test(fed, 6, received)
    own = []
    for client in range(4):
        round_ = replace(round_of(fed, clients=(client,)), lr=fed.config.lr)
        draw = (Purpose.METHOD + 15, 0)
        batches = cohort(0, 6, round_.clients, round_.training, epochs=2, batch=4, draw=draw)
        plan = objective.cross_entropy()(fed, round_, method.download(fed, round_))
        if adapt_steps:
            (job,) = plan.jobs
            segment = replace(job.segments[0], lr=0.2, momentum=0, weight_decay=0, steps=1)
            plan = replace(plan, jobs=(replace(job, segments=(segment,)),))
        copy = fed.executor.train(received, plan, batches).submodels
        own.append(fed.executor.evaluate(copy, [fed.split.client(client).test], "test").accuracies()[0])
    assert tested["test_last"] == pytest.approx(100 * numpy.mean(own))
    assert tested["adaptation_flops"] == 4 * (4 if adapt_steps else 18) * (4 * 16 + 6 * 12)
    assert fed.store.clients == {}, "the copies are thrown away"


def test_the_order_of_the_samples_is_drawn_from_a_stream_of_its_own(monkeypatch) -> None:
    fed = federation({"epochs": 2}, method="per-fedavg")
    recipe = METHODS["per-fedavg"]
    method = recipe.build(recipe.parameters(), fed.config)
    given, train = [], fed.executor.train

    def noted(parameters, plan, batches):
        given.append(batches)
        return train(parameters, plan, batches)

    monkeypatch.setattr(fed.executor, "train", noted)
    round_ = round_of(fed)
    method.evaluation.test(fed, 6, round_.global_parameters)
    draw = (Purpose.METHOD + 15, 0)
    wanted = cohort(0, 6, round_.clients, round_.training, epochs=2, batch=4, draw=draw)
    assert [one.samples.tolist() for one in given] == [wanted.samples.tolist()]
    training = cohort(0, 6, round_.clients, round_.training, epochs=2, batch=4)
    assert wanted.samples.tolist() != training.samples.tolist()
