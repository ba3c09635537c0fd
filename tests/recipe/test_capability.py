"""Capabilities and selected clients: the bound draws and their shapes."""

import numpy
import pytest

from fedlps.randomness import stream
from fedlps.recipe import capability, selection

LEVELS = (1.0, 0.5, 0.25)


def test_dynamic_draws_anew_every_round():
    for number in range(3):
        want = [LEVELS[i] for i in stream(5, 3, number).integers(3, size=40)]
        got = capability.draw(5, number, 40, LEVELS, "dynamic")
        assert got.dtype == numpy.float64
        assert got.tolist() == want
    assert not numpy.array_equal(got, capability.draw(5, 0, 40, LEVELS, "dynamic"))


def test_fix_keeps_the_first_rounds_draw():
    first = capability.draw(5, 0, 40, LEVELS, "dynamic")
    for number in (0, 1, 17):
        numpy.testing.assert_array_equal(capability.draw(5, number, 40, LEVELS, "fix"), first)


def test_one_level_is_everyones():
    assert capability.draw(0, 0, 3, (1,), "dynamic").tolist() == [1.0, 1.0, 1.0]


def test_the_named_levels():
    assert capability.LEVELS == {
        "high": (1, 0.5, 0.25, 0.125, 0.0625),
        "median": (1, 0.5, 0.25),
        "low": (1, 0.5),
    }


@pytest.mark.parametrize(
    ("clients", "fraction", "size"),
    [(100, 0.1, 10), (30, 0.2, 6), (50, 0.2, 10), (57, 0.23, 13), (3, 0.1, 1), (10, 1.0, 10), (10, 0.3 - 1e-12, 3)],
)
def test_cohort_sizes(clients, fraction, size):
    """Products such as 0.1 * 30 may lie a hair below the integer that is meant."""
    assert selection.cohort_size(clients, fraction) == size


def test_the_selection_is_the_head_of_the_rounds_permutation():
    got = selection.draw(5, 2, 50, 0.2)
    assert got.dtype == numpy.int64
    assert got.tolist() == stream(5, 4, 2).permutation(50)[:10].tolist()
    assert len(set(got.tolist())) == 10
