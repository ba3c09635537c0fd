"""FedRolex: a window of units that rolls on with every round."""

import numpy
import pytest

from fedlps.errors import InputError
from tests.methods.widths import COSTS, FULL, aggregated, built, costs, kept, started
from tests.running import model_of, tiny


def test_the_window_rolls_and_wraps() -> None:
    fed, method = built("fedrolex", (10, 4))
    wide = {0: [0, 1, 2, 3, 4], 1: [1, 2, 3, 4, 5], 2: [2, 3, 4, 5, 6], 3: [3, 4, 5, 6, 7]}
    wide |= {6: [0, 6, 7, 8, 9], 9: [0, 1, 2, 3, 9], 10: [0, 1, 2, 3, 4]}
    for number, units in wide.items():
        assert kept(fed, method, started(fed, method, (1 / 2,), number))[0][0] == units
    assert kept(fed, method, started(fed, method, (1 / 2,), 6))[0][1] == [2, 3], "modulo its own units"


def test_every_unit_is_held_as_often_as_any_other() -> None:
    fed, method = built("fedrolex", (10,))
    held = [unit for r in range(10) for unit in kept(fed, method, started(fed, method, (0.3,), r))[0][0]]
    assert numpy.bincount(held).tolist() == [3] * 10


def test_the_mean_over_holders() -> None:
    fed, method = built("fedrolex", (4,))
    bias = aggregated(fed, method, started(fed, method, (3 / 4, 1 / 4), 3), (2, 8))[1]
    assert bias.tolist() == [2, 2, 1, 5], "units 3, 0, 1 and unit 3; nobody holds unit 2"


def test_the_scaler_and_the_cost_are_those_of_as_many_leading_units() -> None:
    fed, method = built("fedrolex", (6,))
    round_ = started(fed, method, (1 / 2, 1), 5)
    jobs = method.objective(fed, round_, method.download(fed, round_)).jobs
    assert [job.scale for job in jobs] == [(2.0,), None]
    half, _ = costs(fed, method, round_)
    assert (half.flops_paper, half.flops_executed) == (3 * 69 * 12, 102 * 9)
    assert half.bytes_up == half.bytes_down == 4 * 27
    fed, method = built("fedrolex", (6,), scaler=False)
    assert [job.scale for job in method.objective(fed, round_, method.download(fed, round_)).jobs] == [None, None]


def test_it_starts_where_leading_units_do(tmp_path) -> None:
    """In round 0 it is heterofl, bit for bit; and again wherever every window is back at its start."""
    own, other = (tiny(tmp_path / name, {"rounds": 1}, name) for name in ("fedrolex", "heterofl"))
    numpy.testing.assert_array_equal(model_of(own.directory), model_of(other.directory))
    later, then = (tiny(tmp_path / f"{name}3", {"rounds": 3}, name) for name in ("fedrolex", "heterofl"))
    assert not numpy.allclose(model_of(later.directory), model_of(then.directory), atol=1e-3)
    fed, rolling = built("fedrolex", (4, 6))
    _, leading = built("heterofl", (4, 6))
    for number, same in ((12, True), (4, False), (6, False)):
        round_ = started(fed, rolling, (1 / 2, 1 / 4), number)
        assert (kept(fed, rolling, round_) == kept(fed, leading, round_)) == same


def test_full_width_is_fedavg(tmp_path) -> None:
    own, other = (tiny(tmp_path / name, {**FULL, "rounds": 3}, name) for name in ("fedrolex", "fedavg"))
    numpy.testing.assert_allclose(model_of(own.directory), model_of(other.directory), rtol=1e-4, atol=1e-6)
    for name in COSTS:
        numpy.testing.assert_allclose(own.metrics[name], other.metrics[name])


@pytest.mark.parametrize("given", [{"method.clip": -1}, {"method.scaler": "often"}, {"method.overlap": 1}])
def test_bad_parameters(tmp_path, given) -> None:
    with pytest.raises(InputError, match=next(iter(given))):
        tiny(tmp_path / "run", given, "fedrolex")
