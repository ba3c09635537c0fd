"""FedAvg-FT: FedAvg, and copies that train for an epoch before they are tested."""

import numpy
import pytest

from fedlps.engine.cohort import cohort
from fedlps.methods import METHODS
from fedlps.randomness import Purpose
from fedlps.recipe import objective
from tests.recipe.federations import federation, round_of
from tests.running import model_of, tiny


def test_it_trains_as_fedavg(tmp_path) -> None:
    plain = tiny(tmp_path / "fedavg", method="fedavg")
    tuned = tiny(tmp_path / "tuned", method="fedavg-ft")
    numpy.testing.assert_array_equal(model_of(tuned.directory), model_of(plain.directory))
    for name in ("test_global", "flops_paper", "flops_executed", "bytes_up", "bytes_down", "time_simulated"):
        numpy.testing.assert_array_equal(tuned.metrics[name], plain.metrics[name])
    assert tuned.metrics["test_last"][-1] > tuned.metrics["test_global"][-1]
    assert "test_best" not in tuned.metrics


@pytest.mark.parametrize("rate", [0.1, 1e300])
def test_one_epoch_of_each_client(rate) -> None:
    """At the rate of the first round, whatever round it is; a copy that diverges is tested as it was."""
    fed = federation({"epochs": 3, "lr": rate}, method="fedavg-ft")
    recipe = METHODS["fedavg-ft"]
    method = recipe.build(recipe.parameters(), fed.config)
    received = round_of(fed).global_parameters
    tested = method.evaluation.test(fed, 6, received)
    round_ = round_of(fed)
    batches = cohort(0, 6, round_.clients, round_.training, epochs=1, batch=4, draw=(Purpose.METHOD + 25, 0))
    copies = fed.executor.train(
        received, objective.cross_entropy()(fed, round_, method.download(fed, round_)), batches
    ).submodels
    test = [fed.split.client(client).test for client in range(4)]
    own = 100 * fed.executor.evaluate(copies, test, "test").accuracies().mean()
    assert own != tested["test_global"]
    assert tested["test_last"] == pytest.approx(own if rate == 0.1 else tested["test_global"])
    assert tested["adaptation_flops"] == 4 * 9 * (4 * 16 + 6 * 12)


def test_the_order_of_the_samples_is_drawn_from_a_stream_of_its_own(monkeypatch) -> None:
    fed = federation({"epochs": 2}, method="fedavg-ft")
    recipe = METHODS["fedavg-ft"]
    method = recipe.build(recipe.parameters(), fed.config)
    given, train = [], fed.executor.train

    def noted(parameters, plan, batches):
        given.append(batches)
        return train(parameters, plan, batches)

    monkeypatch.setattr(fed.executor, "train", noted)
    round_ = round_of(fed)
    method.evaluation.test(fed, 6, round_.global_parameters)
    draw = (Purpose.METHOD + 25, 0)
    wanted = cohort(0, 6, round_.clients, round_.training, epochs=1, batch=4, draw=draw)
    assert [one.samples.tolist() for one in given] == [wanted.samples.tolist()]
    training = cohort(0, 6, round_.clients, round_.training, epochs=1, batch=4)
    assert wanted.samples.tolist() != training.samples.tolist()
