"""Ditto: a step of the own model by hand, the global model left alone, and what is kept and tested."""

import numpy
import pytest

from fedlps.program import initial_parameters
from tests.methods.quadratic import moved, quadratic
from tests.running import contents, model_of, tiny

NONE = numpy.zeros(0, dtype=numpy.int32)  # the model has no units to thin


def test_a_step_by_hand(monkeypatch) -> None:
    """Section 13's numbers: from v = 1 and w = 0 the own model moves by 0.25, the other by 0.4."""
    fed, method = quadratic(monkeypatch, "ditto", 4, strength=0.5)
    fed.store.put_client(0, "last", {"kept": NONE, "counts": NONE, "parameters": numpy.array([0.0, 1.0])})
    assert moved(fed, method, 0, lr=0.1) == pytest.approx([0.4, 1.25], rel=1e-14)


def test_the_own_model_starts_from_the_initial_one(monkeypatch) -> None:
    fed, method = quadratic(monkeypatch, "ditto", 4, strength=0)
    first, own = moved(fed, method, 3, lr=0.1)
    assert first == pytest.approx(3.1, rel=1e-14)
    initial = initial_parameters(fed.program, fed.config.seed)[1]
    assert own == pytest.approx(0.9 * initial + 0.4, rel=1e-14), "not from the received 3"


def test_the_global_model_is_fedavgs(tmp_path) -> None:
    """And the paper counts two passes for one."""
    plain = tiny(tmp_path / "fedavg", method="fedavg")
    own = tiny(tmp_path / "ditto", method="ditto")
    numpy.testing.assert_array_equal(model_of(own.directory), model_of(plain.directory))
    for name in ("test_global", "train_loss", "bytes_up", "bytes_down"):
        numpy.testing.assert_array_equal(own.metrics[name], plain.metrics[name])
    for name in ("flops_paper", "flops_executed"):
        numpy.testing.assert_array_equal(own.metrics[name], 2 * plain.metrics[name])
    assert {"test_last", "test_best"} <= set(own.metrics)
    assert (own.metrics["test_last"] != own.metrics["test_global"]).any()


def test_without_a_pull_the_own_models_are_trained_alone(tmp_path) -> None:
    """They then never depend on other clients; with a pull they do."""
    alone = contents(tiny(tmp_path / "local", method="local").directory)
    own, pulled = (
        contents(tiny(tmp_path / str(strength), {"method.strength": strength}, "ditto").directory)
        for strength in (0, 0.1)
    )
    keys = [key for key in alone if isinstance(key, tuple) and key[1:] == ("last", "parameters")]
    assert keys
    assert all(own[key] == alone[key] for key in keys)
    assert not any(pulled[key] == alone[key] for key in keys)


def test_the_state_is_one_model_more(tmp_path) -> None:
    run = tiny(tmp_path / "run", {"rounds": 1, "fraction": 0.25}, "ditto")
    stored = contents(run.directory)
    models = [value for key, value in stored.items() if isinstance(key, tuple) and key[1:] == ("last", "parameters")]
    (model,) = models
    assert model[1] == model_of(run.directory).shape
    assert model[2] != model_of(run.directory).tobytes()
