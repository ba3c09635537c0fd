"""Which units clients hold: patterns chosen once, and where learned ones start."""

import numpy
import pytest
import torch

from fedlps.engine.plan import Learned
from fedlps.randomness import stream
from fedlps.recipe import download
from tests.recipe.federations import federation, round_of

# absolute row sums of the hidden layer: 0.4, 2.0, 2.0, 1.2
ROWS = torch.tensor([[0.1, -0.1, 0.1, 0.1], [-2.0, 0, 0, 0], [0.5, 0.5, -0.5, 0.5], [0.3, 0.3, 0.3, -0.3]])


def received(fed) -> torch.Tensor:
    parameters = torch.full((fed.program.size,), 9.0, dtype=torch.float64)
    parameters[:16] = ROWS.flatten()
    return parameters


def units_of(hold) -> list[int]:
    return [unit for unit in hold.units.tolist() if unit >= 0]


def test_dense_holds_everything():
    fed = federation()
    for hold in download.dense()(fed, round_of(fed, ratios=0.5)):
        assert hold.counts == (4,)
        assert units_of(hold) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("ratio", "first", "magnitude"), [(0.25, [0], [1]), (0.5, [0, 1], [1, 2]), (0.75, [0, 1, 2], [1, 2, 3])]
)
def test_first_and_magnitude(ratio, first, magnitude):
    fed = federation()
    round_ = round_of(fed, ratios=ratio, parameters=received(fed))
    for pattern, want in (("first", first), ("magnitude", magnitude)):
        holds = download.configured(pattern)(fed, round_)
        assert [units_of(hold) for hold in holds] == [want] * 4
        assert {hold.counts for hold in holds} == {(len(want),)}


def test_random_units_are_the_largest_of_the_clients_draw_of_the_round():
    fed = federation({"seed": 5})
    for number in (0, 1):
        holds = download.configured("random")(fed, round_of(fed, number, (2, 0), (0.5, 0.75)))
        for hold, client, count in zip(holds, (2, 0), (2, 3), strict=True):
            draws = stream(5, 8, number, client).random(4)
            assert units_of(hold) == sorted(numpy.argsort(-draws)[:count].tolist())


def test_learned_units_start_from_the_received_magnitudes():
    fed = federation({"objective.lambda": 0.7, "importance.kappa": 0.2, "objective.norm": "sum"})
    parameters = received(fed)
    hold = download.configured("learned")(fed, round_of(fed, ratios=0.5, parameters=parameters))[0]
    assert isinstance(hold.units, Learned)
    assert (hold.units.strength, hold.units.kappa, hold.units.reduction) == (0.7, 0.2, "sum")
    want = 1 / (1 + numpy.exp([0.4, 2.0, 2.0, 1.2]))
    numpy.testing.assert_allclose(hold.units.redundancy.numpy(), want, rtol=1e-6)
    assert hold.counts == (2,)


def test_learned_units_start_from_the_clients_draw():
    fed = federation({"importance.init": "random", "seed": 4})
    for number in (0, 7):
        holds = download.configured("learned")(fed, round_of(fed, number, (1, 3)))
        for hold, client in zip(holds, (1, 3), strict=True):
            assert hold.units.redundancy.tolist() == stream(4, 7, client).random(4).tolist()


def test_learned_units_go_on_from_what_was_kept():
    fed = federation()
    kept = numpy.array([0.1, 0.2, 0.3, 0.4])
    fed.store.put_client(2, download.IMPORTANCE, {"redundancy": kept})
    holds = download.configured("learned")(fed, round_of(fed, parameters=received(fed)))
    assert holds[2].units.redundancy.tolist() == kept.tolist()
    assert holds[1].units.redundancy.tolist() != kept.tolist()
