"""FedProx: two steps by hand, and when it is FedAvg."""

import numpy
import pytest

from tests.methods.quadratic import moved, quadratic
from tests.methods.widths import COSTS
from tests.running import model_of, tiny


def test_two_steps_by_hand(monkeypatch) -> None:
    """Section 2's numbers: the first step is FedAvg's, the second is pulled back by 0.5 * 0.3."""
    fed, method = quadratic(monkeypatch, "fedprox", 4, mu=0.5)
    assert moved(fed, method, 1, lr=0.1) == pytest.approx([1.3], rel=1e-14)
    assert moved(fed, method, 1, lr=0.1, steps=2) == pytest.approx([1.555], rel=1e-14)


def test_without_a_pull_it_is_fedavg(tmp_path) -> None:
    plain = tiny(tmp_path / "fedavg", method="fedavg")
    runs = {mu: tiny(tmp_path / str(mu), {"method.mu": mu}, "fedprox") for mu in (0, 0.1)}
    numpy.testing.assert_array_equal(model_of(runs[0].directory), model_of(plain.directory))
    assert not numpy.array_equal(model_of(runs[0.1].directory), model_of(runs[0].directory))
    for name in COSTS:
        numpy.testing.assert_array_equal(runs[0].metrics[name], plain.metrics[name])
        if name != "test_global":
            numpy.testing.assert_array_equal(runs[0.1].metrics[name], plain.metrics[name])
    assert not {"test_last", "test_best"} & set(plain.metrics) | ({"test_last", "test_best"} & set(runs[0].metrics))
