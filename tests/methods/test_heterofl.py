"""HeteroFL: nested leading units, the scaler, and the plain mean over the holders."""

import numpy
import pytest

from fedlps.errors import InputError
from tests.methods.widths import COSTS, FULL, aggregated, built, costs, kept, started
from tests.running import model_of, tiny


def test_the_mean_over_holders() -> None:
    fed, method = built("heterofl", (4, 4))
    _, bias, weight, *_ = aggregated(fed, method, started(fed, method, (1, 1 / 2, 1 / 4)), (2, 4, 8))
    assert bias.tolist() == pytest.approx([14 / 3, 3, 2, 2])
    assert weight[1, 1] == 3, "held by the first two"
    assert weight[0, 0] == pytest.approx(14 / 3)
    assert weight[3, 0] == 2, "of the first alone"
    bias = aggregated(fed, method, started(fed, method, (1 / 2, 1 / 4)), (4, 8))[1]
    assert bias.tolist() == [6, 4, 1, 1], "what nobody holds stays"
    uneven = started(fed, method, (1 / 2, 1 / 4), training=(numpy.arange(10), numpy.arange(30)))
    assert aggregated(fed, method, uneven, (4, 8))[1].tolist() == [6, 4, 1, 1], "however much data they have"


def test_submodels_are_nested() -> None:
    fed, method = built("heterofl", (4, 9))
    for number in (0, 3):
        units = kept(fed, method, started(fed, method, (1 / 16, 1 / 4, 1 / 2, 1), number))
        assert units == [[[*range(n)], [*range(m)]] for n, m in ((1, 1), (1, 2), (2, 4), (4, 9))]


def test_the_scaler_is_all_units_over_kept_ones() -> None:
    fed, method = built("heterofl", (4, 9), {"clip": 0})
    round_ = started(fed, method, (1, 1 / 2, 1 / 4))
    jobs = method.objective(fed, round_, method.download(fed, round_)).jobs
    assert [job.scale for job in jobs] == [None, (2.0, 9 / 4), (4.0, 9 / 2)]
    assert [job.segments[0].clip for job in jobs] == [0, 5, 5]
    fed, method = built("heterofl", (4, 9), {"clip": 2})
    jobs = method.objective(fed, round_, method.download(fed, round_)).jobs
    assert [job.segments[0].clip for job in jobs] == [2, 2, 2]
    fed, method = built("heterofl", (4, 9), scaler=False)
    jobs = method.objective(fed, round_, method.download(fed, round_)).jobs
    assert [(job.scale, job.segments[0].clip) for job in jobs] == [(None, 0)] * 3


def test_the_cost_of_half_the_units() -> None:
    """4 -> 6 -> 3: rows alone in the paper's count, rows and columns in what runs; 9 samples count as 12."""
    fed, method = built("heterofl", (6,))
    half, full = costs(fed, method, started(fed, method, (1 / 2, 1)))
    assert (half.flops_paper, full.flops_paper) == (3 * 69 * 12, 3 * 93 * 12)
    assert (half.flops_executed, full.flops_executed) == (102 * 9, 204 * 9)
    assert half.bytes_up == half.bytes_down == 4 * (12 + 3 + 9 + 3)
    assert full.bytes_up == full.bytes_down == 4 * 51


def test_full_width_is_fedavg_and_less_is_not(tmp_path) -> None:
    """All clients have as many samples; the two means are summed in another order."""
    own, other = (tiny(tmp_path / name, {**FULL, "rounds": 3}, name) for name in ("heterofl", "fedavg"))
    numpy.testing.assert_allclose(model_of(own.directory), model_of(other.directory), rtol=1e-4, atol=1e-6)
    for name in COSTS:
        numpy.testing.assert_allclose(own.metrics[name], other.metrics[name])
    thin = tiny(tmp_path / "thin", {"rounds": 3}, "heterofl")
    assert not numpy.allclose(model_of(thin.directory), model_of(other.directory), atol=1e-3)
    assert not {"test_last", "test_best"} & set(thin.metrics)


@pytest.mark.parametrize("given", [{"method.clip": -1}, {"method.scaler": "often"}, {"method.widths": [1]}])
def test_bad_parameters(tmp_path, given) -> None:
    with pytest.raises(InputError, match=next(iter(given))):
        tiny(tmp_path / "run", given, "heterofl")
