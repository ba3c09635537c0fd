"""Uploads folded into the global parameters, against sums written out entry by entry."""

from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.randomness import stream
from fedlps.recipe import aggregation
from fedlps.recipe.federation import Outcome
from fedlps.recipe.upload import Uploads
from tests.recipe.federations import federation, outcome_of, round_of, submodels

# two clients hold units {0, 1} and {1, 3}; residuals of 1 and 10 on all they hold
SIZES = [9, 3]


@pytest.fixture
def fed():
    return federation()


def folded(fed, rule: str, sizes=SIZES, kept=((0, 1), (1, 3)), values=(1.0, 10.0)) -> torch.Tensor:
    """w^r - w^{r+1}, so positive where residuals are."""
    vectors = [torch.full((35,), value, dtype=torch.float64) for value in values]
    outcome, uploads = arrived(fed, 0, sizes, list(zip(kept, vectors, strict=True)))
    return outcome.round.global_parameters - aggregation.residuals(rule)(fed, outcome, uploads)


def arrived(fed, number: int, sizes, held) -> tuple[Outcome, Uploads]:
    """A round of clients with so many training samples, and their residuals on the units they hold."""
    round_ = round_of(fed, number, clients=tuple(range(len(sizes))))
    round_ = replace(round_, training=tuple(numpy.arange(size) for size in sizes))
    return outcome_of(fed, round_), Uploads(tuple(range(len(sizes))), submodels(fed, held), fed.layout)


@pytest.mark.parametrize(
    ("rule", "neither", "first", "both", "second"),
    [
        ("residual", 0, 0.75 * 1, 0.75 * 1 + 0.25 * 10, 0.25 * 10),
        ("uniform", 0, 0.5 * 1, 0.5 * 1 + 0.5 * 10, 0.5 * 10),
        ("holders", 0, 1, 0.75 * 1 + 0.25 * 10, 10),
        ("uniform_holders", 0, 1, 0.5 * 1 + 0.5 * 10, 10),
    ],
)
def test_every_rule_entry_by_entry(fed, rule, neither, first, both, second):
    change = folded(fed, rule)
    by_unit = [first, both, neither, second]
    weight, bias, output, last = change.split([16, 4, 12, 3])
    for unit, value in enumerate(by_unit):
        assert weight.view(4, 4)[unit].tolist() == pytest.approx([value] * 4)
        assert bias[unit] == pytest.approx(value)
        assert output.view(3, 4)[:, unit].tolist() == pytest.approx([value] * 3)
    assert last.tolist() == pytest.approx([both] * 3), "all hold the output's biases"


def test_sums_run_in_cohort_order(fed):
    """In floating point the order shows: 1 is lost beside 1e17, unless 1e17 - 1e17 comes first."""
    kept, sizes = ((0,), (0,), (0,)), [1, 1, 1]
    assert folded(fed, "residual", sizes, kept, (1e17, 1.0, -1e17))[0] == 0
    assert folded(fed, "residual", sizes, kept, (1e17, -1e17, 1.0))[0] == pytest.approx(1 / 3)


def test_no_upload_changes_nothing_and_gets_no_noise():
    fed = federation({"aggregation.noise": 0.5})
    outcome = outcome_of(fed, round_of(fed))
    got = aggregation.residuals("residual")(fed, outcome, Uploads((), submodels(fed, []), fed.layout))
    assert torch.equal(got, outcome.round.global_parameters)


def test_noise_is_the_rounds_own_draw():
    fed, quiet = federation({"aggregation.noise": 0.5, "seed": 3}), federation({"seed": 3})
    vector = torch.ones(35, dtype=torch.float64)
    for number in (0, 4):
        outcome, uploads = arrived(fed, number, [5], [((0, 1, 2, 3), vector)])
        noisy = aggregation.residuals("residual")(fed, outcome, uploads)
        plain = aggregation.residuals("residual")(quiet, outcome, uploads)
        want = stream(3, 10, number).normal(0, 0.5, 35)
        numpy.testing.assert_allclose((noisy - plain).numpy(), want, rtol=1e-12, atol=1e-14)
