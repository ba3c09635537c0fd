"""Other counts: section 0.3's small case, what adds up over rounds, and the mask of each segment."""

from dataclasses import replace

import torch

from fedlps.engine.plan import Hold, Job, Plan, Pull, Segment
from fedlps.models import chain
from fedlps.recipe import counts
from fedlps.recipe.federation import Federation, Outcome
from fedlps.recipe.method import Measure
from tests.engine.cases import executor_of, first_units, samples
from tests.recipe.federations import federation, outcome_of, round_of

SHAPE = (1, 2, 2)


def counted(hold: Hold, measure: Measure, fed: Federation, rounds: int = 1, **more) -> float:
    """A linear chain 4, 6, 3 that takes one step on one sample a round."""
    outcome: Outcome = outcome_of(fed, replace(round_of(fed, clients=(0,)), training=(torch.zeros(1).long().numpy(),)))
    outcome = replace(outcome, plan=Plan((Job(0, hold, (Segment(0.1),), **more),)))
    for _ in range(rounds):
        (value,) = measure(fed, outcome, torch.zeros(fed.program.size)).values()
    return value


def small() -> Federation:
    steps = [["flatten"], ["linear", 6], ["relu"], ["linear", 3]]
    program, executor = executor_of(chain(SHAPE, steps), SHAPE, samples(SHAPE, 3, 40))
    return replace(federation({"batch": 1}), program=program, executor=executor)


def test_rows_and_columns() -> None:
    """Half of six units: (27 + 21) forward, three times that."""
    fed = small()
    assert counted(Hold((3,), first_units(fed.program, (3,))), counts.rows_and_columns(), fed) == 144


def test_sparse_kernels() -> None:
    """12 and 9 of 24 and 18 weights: two products in the first layer, three in the second."""
    fed = small()
    mask = torch.ones(fed.program.size, dtype=torch.bool)
    mask[:12] = mask[30:39] = False
    hold = Hold((6,), first_units(fed.program, (6,)), mask)
    assert counted(hold, counts.sparse_kernels(), fed) == 102
    by_segment = counts.sparse_kernels(lambda fed, round_, job, segment: (24, 18) if segment else (12, 9))
    assert counted(hold, by_segment, small()) == 102
    fed = small()
    assert counted(hold, by_segment, fed, rounds=2) == 204, "it adds up over rounds"
    assert fed.store.get_tensor("flops_sparse").tolist() == [204]


def test_pulls() -> None:
    fed = small()
    pull = Pull(0.1, torch.zeros(fed.program.size))
    hold = Hold((6,), first_units(fed.program, (6,)))
    assert counted(hold, counts.pulling(), fed, pulls=(pull,)) == 3 * 51
    assert counted(hold, counts.pulling(), small()) == 0
