"""A local round of ten clients on the MNIST network: python -m pytest -s bench/rounds/training.py

Save with --benchmark-json=bench/results/training.json. Two threads need two idle cores.
"""

from collections.abc import Callable

import pytest
import torch

from bench.rounds.case import UNEQUAL, Case, Trained, fedavg_case, fedlps_case, flops, unfolded
from bench.rounds.compact import Compact
from bench.rounds.engine import engine, instructions, torch_threads
from bench.rounds.equality import Train, check
from bench.rounds.masked import Masked
from bench.rounds.measure import Claim, compare
from bench.rounds.vmapped import Vmapped
from fedlps.engine.result import LocalResult

REPEATS = 10


def on(threads: int, train: Train) -> Train:
    """The same with so many torch threads."""

    def call() -> list[Trained]:
        with torch_threads(threads):
            return train()

    return call


def engines(case: Case) -> dict[str, Callable[[], LocalResult]]:
    """The engine on one and two threads, and with AVX2."""
    single, double = engine(case, threads=1), engine(case, threads=2)
    arguments = case.parameters, case.plan, case.cohort

    def narrow() -> LocalResult:
        with instructions("avx2"):
            return single.train(*arguments)

    return {
        "engine, 1 thread": lambda: single.train(*arguments),
        "engine, 2 threads": lambda: double.train(*arguments),
        "engine, avx2, 1 thread": narrow,
    }


def trainings(case: Case, loops: dict[str, Train]) -> dict[str, Train]:
    """The engines, in the form of loops, and the loops."""
    return {name: lambda call=call: list(unfolded(case, call())) for name, call in engines(case).items()} | loops


@pytest.mark.parametrize("batch", [32, 20])
def test_unequal_clients(benchmark, batch):
    """Two clients of each ratio 1 .. 1/16 under FedLPS, against full-width and against gathered PyTorch."""

    def loops(case: Case) -> dict[str, Train]:
        masked, compact = Masked(case), Compact(case)
        return {
            f"{name}, {threads} thread{'s' * (threads > 1)}": on(threads, loop.train)
            for name, loop in (("masked", masked), ("compact", compact))
            for threads in (1, 2)
        }

    exact = fedlps_case(UNEQUAL, batch=batch, dtype=torch.float64, tied=True)
    check(exact, trainings(exact, loops(exact)))
    case = fedlps_case(UNEQUAL, batch=batch)
    timed = loops(case)
    check(case, trainings(case, timed))
    print(f"\nchanges of the selection per client: {[own.changes for own in timed['compact, 1 thread']()]}")
    ours, masked, compact = "engine, 1 thread", "masked, 1 thread", "compact, 1 thread"
    claims = [
        Claim("masked, one thread each", [masked], ours, 20, 40),
        Claim("compact, one thread each", [compact], ours, 12, 25),
        Claim("masked, best threads, engine two", [masked, "masked, 2 threads"], "engine, 2 threads", 20, 40),
        Claim("compact, best threads, engine two", [compact, "compact, 2 threads"], "engine, 2 threads", 12, 25),
        Claim("masked, best threads, engine one", [masked, "masked, 2 threads"], ours, 20, 40),
        Claim("compact, best threads, engine one", [compact, "compact, 2 threads"], ours, 12, 25),
        Claim("engine, two threads against one", [ours], "engine, 2 threads", 1.7, 1.95),
        Claim("masked, engine with AVX2 only", [masked], "engine, avx2, 1 thread", 10, 20),
    ]
    compare(benchmark, engines(case) | timed, claims, repeats=REPEATS, flops=flops(case))


def test_equal_clients(benchmark):
    """Ten whole models under FedAvg, against the plain loop and the compiled vmap over the clients."""

    def loops(case: Case) -> dict[str, Train]:
        return {
            f"{name}, {threads} thread{'s' * (threads > 1)}": on(threads, loop.train)
            for name, loop in (("loop", Compact(case)), ("compiled vmap", Vmapped(case, compiled=True)))
            for threads in (1, 2)
        }

    exact = fedavg_case(dtype=torch.float64)
    check(exact, trainings(exact, {"loop": Compact(exact).train, "vmap": Vmapped(exact, compiled=False).train}))
    case = fedavg_case()
    timed = loops(case)
    check(case, trainings(case, timed))
    single = ["loop, 1 thread", "compiled vmap, 1 thread"]
    ours, both = "engine, 1 thread", [*single, "loop, 2 threads", "compiled vmap, 2 threads"]
    claims = [
        Claim("better of loop and compiled vmap, one thread each", single, ours, 6, 12),
        Claim("better of both and of their threads, engine two", both, "engine, 2 threads", 6, 12),
        Claim("better of both and of their threads, engine one", both, ours, 6, 12),
        Claim("engine, two threads against one", [ours], "engine, 2 threads", 1.7, 1.95),
    ]
    compare(benchmark, engines(case) | timed, claims, repeats=REPEATS, flops=flops(case))
