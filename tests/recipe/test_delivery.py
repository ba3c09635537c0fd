"""Which uploads are lost."""

import numpy
import pytest

from fedlps.randomness import stream
from fedlps.recipe import delivery
from tests.recipe.federations import federation, outcome_of, round_of


@pytest.mark.parametrize(("number", "dropout"), [(0, 0.5), (3, 0.5), (0, 0.2)])
def test_the_draw_of_the_round_decides_in_cohort_order(number, dropout):
    fed = federation({"faults.dropout": dropout, "seed": 2})
    round_ = round_of(fed, number, (3, 0, 2, 1))
    got = delivery.random_loss()(fed, round_, outcome_of(fed, round_).result)
    assert got.tolist() == (stream(2, 9, number).random(4) < dropout).tolist()


def test_never_and_always():
    for dropout, want in ((0.0, False), (1.0, True)):
        fed = federation({"faults.dropout": dropout})
        round_ = round_of(fed)
        got = delivery.random_loss()(fed, round_, outcome_of(fed, round_).result)
        assert got.tolist() == [want] * 4


def test_one_that_diverged_is_not_dropped_as_well():
    fed = federation({"faults.dropout": 1.0})
    round_ = round_of(fed)
    outcome = outcome_of(fed, round_, diverged=[1])
    assert delivery.random_loss()(fed, round_, outcome.result).tolist() == [True, False, True, True]


def test_a_client_counts_if_it_neither_diverged_nor_was_dropped():
    fed = federation()
    outcome = outcome_of(fed, round_of(fed), diverged=[1], dropped=[3], hits=[9, 9, 0, 3])
    assert outcome.counted.tolist() == [True, False, True, False]
    numpy.testing.assert_allclose(outcome.accuracies, [1, 0, 0, 3 / 9])
