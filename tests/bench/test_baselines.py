"""The loops that the round benchmarks compare with compute what the reference executor computes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from bench.rounds.case import Case, Network, Trained, differences, fedavg_case, fedlps_case, photographs
from bench.rounds.compact import Compact
from bench.rounds.engine import definition, torch_threads
from bench.rounds.masked import Masked
from bench.rounds.submodels import drawn, widened
from bench.rounds.vmapped import Vmapped
from fedlps.engine.plan import Plan
from fedlps.engine.result import LocalResult
from fedlps.models import chain

SHAPE = (1, 10, 10)
TINY: dict[str, int | torch.dtype] = {"samples": 13, "epochs": 4, "batch": 5, "dtype": torch.float64}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other take ten times as long on a busy machine."""
    with torch_threads(1):
        yield


def network() -> Network:
    features = (["conv", 6, 3, 1, 0], ["maxpool", 2], ["relu"], ["conv", 8, 3, 1, 0], ["relu"])
    return Network(chain(SHAPE, [*features, ["flatten"], ["linear", 7], ["relu"], ["linear", 3]]), SHAPE)


def normed() -> Network:
    block = (["norm"], ["relu"], ["maxpool", 2])
    features = (["conv", 6, 3, 1, 1], *block, ["conv", 8, 3, 1, 0], *block[:2])
    return Network(chain(SHAPE, [*features, ["flatten"], ["linear", 3]]), SHAPE, photographs)


def unequal(model: Network | None = None) -> Case:
    return fedlps_case((1.0, 0.5, 0.25, 0.125), model or network(), tied=True, **TINY)


def compact(layout: torch.memory_format) -> Callable[[Case], Compact]:
    return lambda case: Compact(case, [layout for _ in case.plan.jobs])


LOOPS = {"masked": Masked, "NCHW": compact(torch.contiguous_format), "channels last": compact(torch.channels_last)}


def wanted(case: Case) -> LocalResult:
    plan = Plan(case.plan.jobs, frozenset({"parameters", "kept"}))
    return definition(case).train(case.parameters, plan, case.cohort)


def check(case: Case, trained: list[Trained], result: LocalResult) -> None:
    for name, clients in differences(case, trained, result).items():
        assert max(clients) <= 1e-10, name
    for own, parameters in zip(trained, result.probes["parameters"], strict=True):
        torch.testing.assert_close(own.parameters, parameters, rtol=0, atol=1e-10)


@pytest.mark.parametrize("model", [network, normed])
@pytest.mark.parametrize("loop", LOOPS.values(), ids=list(LOOPS))
def test_a_loop_over_unequal_clients(loop: Callable[[Case], Masked | Compact], model: Callable[[], Network]) -> None:
    case = unequal(model())
    result = wanted(case)
    changes = [sum(not torch.equal(*pair) for pair in pairwise(kept)) for kept in result.probes["kept"]]
    trained = loop(case).train()
    check(case, trained, result)
    assert changes[0] == 0
    assert all(changes[1:])
    assert sum(own.changes for own in trained) >= sum(changes)  # the loops also look after the last step
    made = loop(case)
    made.train()
    again = made.train()
    assert all(torch.equal(one.parameters, other.parameters) for one, other in zip(trained, again, strict=True))


def test_loops_over_equal_clients() -> None:
    case = fedavg_case(3, network(), **TINY)
    result = wanted(case)
    check(case, Compact(case).train(), result)
    check(case, Vmapped(case, compiled=False).train(), result)


def test_a_difference_is_noticed() -> None:
    case = unequal()
    result, trained = wanted(case), Masked(case).train()
    for name in ("parameters", "redundancy"):
        moved = [*trained[:-1], replace(trained[-1], **{name: getattr(trained[-1], name) + 1e-6})]
        assert max(differences(case, moved, result)[name]) > 1e-7


def test_the_gated_loop_evaluates_submodels() -> None:
    case = unequal()
    models = drawn(case, (1.0, 0.5, 0.25, 0.125))
    samples = [torch.arange(9 * row, 9 * row + 9) for row in range(len(models))]
    hits, losses = Masked(case).evaluate(*widened(case, models), samples)
    expected = definition(case).evaluate(models, [own.numpy() for own in samples], "train")
    assert hits.tolist() == [own.sum() for own in expected.hits]
    torch.testing.assert_close(losses, torch.from_numpy(expected.losses), rtol=0, atol=1e-10)
