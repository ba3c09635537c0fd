"""Extended Federated Dropout: random units per client and round."""

from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.engine.cohort import cohort
from fedlps.errors import InputError
from fedlps.randomness import stream
from fedlps.recipe import download
from tests.methods.widths import COSTS, FULL, aggregated, built, costs, kept, started
from tests.running import model_of, tiny


def test_the_units_are_the_clients_draw_of_the_round() -> None:
    fed, method = built("efd", (8, 8), {"seed": 3})
    seen = set()
    for number in (0, 1):
        for client, units in enumerate(kept(fed, method, started(fed, method, (1 / 4,) * 4, number))):
            rng = stream(3, 106, 0, number, client)
            assert units == [sorted(numpy.argsort(-rng.random(8))[:2].tolist()) for _ in range(2)]
            seen.add(str(units))
    assert len(seen) > 4
    counts = method.download(fed, started(fed, method, (1 / 4,)))[0].counts
    assert fed.program.counts(1 / 4) == counts == (2, 2), "2 x 2 of the 8 x 8 weights"


def test_every_unit_is_as_likely_as_any_other() -> None:
    fed, method = built("efd", (8,))
    held = [
        unit for r in range(500) for own in kept(fed, method, started(fed, method, (1 / 4,) * 4, r)) for unit in own[0]
    ]
    shares = numpy.bincount(held) / 2000
    assert abs(shares - 0.25).max() < 4 * numpy.sqrt(0.25 * 0.75 / 2000)


def test_the_mean_over_holders() -> None:
    fed, method = built("efd", (8,))
    wanted = {0: [1, 4], 1: [4, 6]}

    def scores(federation, round_, client):
        return torch.isin(torch.arange(8), torch.tensor(wanted[client])).double()

    chosen = replace(method, download=download.largest_units(scores))
    round_ = started(fed, chosen, (1 / 4, 1 / 4))
    assert aggregated(fed, chosen, round_, (2, 6))[1].tolist() == [1, 2, 1, 1, 4, 1, 6, 1]
    uneven = replace(round_, training=(numpy.arange(10), numpy.arange(30)))
    assert aggregated(fed, chosen, uneven, (2, 6))[1].tolist() == [1, 2, 1, 1, 5, 1, 6, 1], "weighted by data"


def test_the_cost_of_half_the_units() -> None:
    fed, method = built("efd", (6,))
    half, _ = costs(fed, method, started(fed, method, (1 / 2, 1)))
    assert (half.flops_paper, half.flops_executed) == (3 * 69 * 12, 102 * 9)
    assert half.bytes_up == half.bytes_down == 4 * 27


def test_all_units_are_what_fedavg_trains(tmp_path) -> None:
    own, other = (tiny(tmp_path / name, {**FULL, "rounds": 3}, name) for name in ("efd", "fedavg"))
    numpy.testing.assert_allclose(model_of(own.directory), model_of(other.directory), rtol=1e-4, atol=1e-6)
    for name in COSTS:
        numpy.testing.assert_allclose(own.metrics[name], other.metrics[name])
    thin = tiny(tmp_path / "thin", {"rounds": 3}, "efd")
    assert not numpy.allclose(model_of(thin.directory), model_of(other.directory), atol=1e-3)


def test_at_ratio_1_each_clients_model_is_fedavgs_bit_for_bit() -> None:
    trained = []
    for name in ("efd", "fedavg"):
        fed, method = built(name, (6, 5))
        round_ = started(fed, method, (1, 1, 1), 2)
        batches = cohort(0, 2, round_.clients, round_.training, epochs=1, batch=4)
        start = torch.linspace(-1, 1, fed.program.size, dtype=torch.float64)
        plan = method.objective(fed, round_, method.download(fed, round_))
        trained.append(fed.executor.train(start, plan, batches).submodels)
    assert torch.equal(trained[0].kept, trained[1].kept)
    assert torch.equal(trained[0].parameters, trained[1].parameters)


def test_it_has_no_parameters(tmp_path) -> None:
    with pytest.raises(InputError, match=r"method\.scaler"):
        tiny(tmp_path / "run", {"method.scaler": True}, "efd")
