"""More clients than needed: who is awaited, what of it travels, and how long it takes."""

from dataclasses import replace

import torch

from fedlps.recipe import over_commit
from tests.recipe.federations import federation, outcome_of, round_of, submodels


def timed(fed, seconds: tuple[float, ...], **failed):
    """A round of clients that take so long and train to their number."""
    round_ = round_of(fed, clients=range(len(seconds)))
    models = [(range(4), torch.full((35,), float(k), dtype=torch.float64)) for k in range(len(seconds))]
    outcome = outcome_of(fed, round_, models=submodels(fed, models), **failed)
    costs = [replace(cost, seconds=own) for cost, own in zip(outcome.costs, seconds, strict=True)]
    return replace(outcome, costs=tuple(costs))


def test_the_first_that_are_done_count() -> None:
    fed = federation({"fraction": 0.5})  # two of four
    outcome = timed(fed, (7, 5, 9, 5))
    assert over_commit.awaited(fed, outcome).tolist() == [False, True, False, True]
    assert over_commit.until_enough(fed, outcome) == 5
    sent = over_commit.first_uploads()(fed, outcome)
    assert sent.positions == (1, 3)
    moved = outcome.round.global_parameters[:1] - sent.residuals.parameters[:, 0]
    assert moved.tolist() == [1, 3]


def test_of_equally_fast_clients_the_first_count() -> None:
    fed = federation({"fraction": 0.5})
    assert over_commit.awaited(fed, timed(fed, (5, 5, 5))).tolist() == [True, True, False]


def test_an_upload_that_is_lost_is_not_awaited() -> None:
    fed = federation({"fraction": 0.5})
    outcome = timed(fed, (7, 5, 9, 4), dropped=[3], diverged=[1])
    assert over_commit.awaited(fed, outcome).tolist() == [True, False, True, False]
    assert over_commit.until_enough(fed, outcome) == 9
    outcome = timed(fed, (7, 5, 9, 4), dropped=[3, 0], diverged=[1])
    assert over_commit.until_enough(fed, outcome) == 9, "too few arrive: all are waited for"


def test_without_over_commitment_all_are_awaited() -> None:
    fed = federation()
    outcome = timed(fed, (7, 5, 9, 4), dropped=[2])
    assert over_commit.awaited(fed, outcome).tolist() == outcome.counted.tolist()
    assert over_commit.until_enough(fed, outcome) == 9
