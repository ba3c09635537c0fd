"""What a round says of masks: the numbers of section 28, and what sparse uploads save in closed form."""

from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.methods import METHODS
from fedlps.models import chain
from fedlps.recipe import consensus, mask_metrics
from fedlps.recipe.mask_accounting import TOOK_PART
from fedlps.recipe.prune_regrow import Course
from tests.engine.cases import executor_of, samples
from tests.recipe.federations import federation, outcome_of, round_of


def mask_of(*kept: int) -> torch.Tensor:
    """Of the 16 maskable weights these, and everything else."""
    mask = torch.arange(35) >= 16
    mask[list(kept)] = True
    return mask


def test_how_far_masks_agree() -> None:
    """Clients {0,1,2,3}, {2,3,4,5}, {2,3,6,7}; the server goes from {0,1} to {1,2,3}."""
    fed = federation(method="flash-jmwst")
    outcome = outcome_of(fed, round_of(fed, clients=(0, 1, 2, 3)), diverged=(3,))
    masks = [mask_of(0, 1, 2, 3), mask_of(2, 3, 4, 5), mask_of(2, 3, 6, 7), mask_of(15)]
    outcome.result.probes["mask"] = masks
    consensus.keep_masks(fed, [mask_of(0, 1)])
    consensus.keep_masks(fed, [mask_of(1, 2, 3)])
    parameters = torch.zeros(35, dtype=torch.float64)
    parameters[[1, 2, 3, 20]] = 1
    got = mask_metrics.agreement(False, 0.25)(fed, outcome, parameters)
    assert got["mask_mismatch"] == pytest.approx(0.75)
    assert got["mask_mismatch_pairs"] == pytest.approx(2 / 3)
    assert got["mask_mismatch_server"] == pytest.approx(numpy.mean([1 - 3 / 4, 1 - 2 / 5, 1 - 2 / 5]))
    assert got["mask_mismatch_rounds"] == pytest.approx(1 - 1 / 4)
    assert got["density"] == 3 / 16
    assert got["density_all"] == 4 / 35
    assert got["communication_ideal"] == 4


@pytest.mark.parametrize(
    ("method", "density", "rounds", "saved"),
    [("flash-jmwst", 0.1, 1, 7.62), ("flash-jmwst", 0.05, 1, 12.31), ("flash-spdst", 0.05, 60, 19.79)],
)
def test_what_is_saved(method, density, rounds, saved) -> None:
    """Where all but three of a million parameters can be masked, one client taking part so many times."""
    recipe = METHODS[method]
    fed = federation(method=method)
    shape, steps = (1, 1000, 1000), [["flatten"], ["linear", 1], ["linear", 1]]
    program, executor = executor_of(chain(shape, steps), (1, 1000, 1000), samples((1, 1, 1), 1, 1))
    fed = replace(fed, program=program, executor=executor)
    built = recipe.build(recipe.parameters(density=density), fed.config)
    mask = torch.arange(program.size) < density * 1e6
    mask[10**6 :] = True
    consensus.keep_masks(fed, [mask])
    round_ = round_of(fed, clients=(0,), parameters=torch.zeros(program.size))
    plan = built.objective(fed, round_, built.download(fed, round_))
    outcome = outcome_of(fed, round_)
    outcome.result.probes["mask"] = [mask]
    for _ in range(rounds):
        outcome = replace(outcome, costs=built.accounting(fed, round_, plan))
        got = built.measure(fed, outcome, torch.zeros(program.size))
        fed.store.put_client(0, TOOK_PART.part, {"round": numpy.array([0])})
    assert round(got["communication_saved"], 2) == saved
    assert got["communication_ideal"] == pytest.approx(1 / density)


def test_a_course_without_boundaries() -> None:
    assert Course().before(3) is None
    assert Course({0: [5], 1: [6]}).before(1) == [5]
    assert Course({0: [5], 1: [6]}).before(9) == [6], "a client that diverged has noted no more"
