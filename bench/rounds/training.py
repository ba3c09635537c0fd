"""A local round of ten clients on the MNIST network: python -m pytest -s bench/rounds/training.py

Save with --benchmark-json=bench/results/training.json. Two threads need two idle cores.
"""

import statistics
from collections.abc import Callable

import pytest
import torch

from bench.rounds.case import UNEQUAL, Case, Trained, differences, fedavg_case, fedlps_case, unfolded
from bench.rounds.compact import Compact
from bench.rounds.engine import definition, engine, instructions, torch_threads
from bench.rounds.masked import Masked
from bench.rounds.measure import Claim, compare
from bench.rounds.vmapped import Vmapped
from fedlps.cost import executed_flops, submodel_weights
from fedlps.engine.result import LocalResult

REPEATS = 10
Train = Callable[[], list[Trained]]


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


def check(case: Case, loops: dict[str, Train]) -> None:
    """Each engine and each loop against the definition; nothing is timed that computes something else.

    In float32 a ReLU or a pooling window may decide otherwise where two values nearly agree, which moves a client by up
    to some hundredths (torch's own loops too); of ten clients that happens to few.
    """
    wanted = definition(case).train(case.parameters, case.plan, case.cohort)
    ours = {name: lambda call=call: unfolded(case, call()) for name, call in engines(case).items()}
    exact = case.parameters.dtype == torch.float64
    for name, train in (ours | loops).items():
        for what, clients in differences(case, train(), wanted).items():
            apart = f"{name}: {what} of the clients differ by {clients}"
            assert max(clients) <= (1e-10 if exact else 1e-1), apart
            assert statistics.median(clients) <= (1e-10 if exact else 1e-5), apart


def flops(case: Case) -> float:
    """What the clients' submodels multiply and add in one call."""
    return float(
        sum(
            executed_flops(case.program, submodel_weights(case.program, job.hold.counts))
            * sum(map(len, case.batches(job.client)))
            for job in case.plan.jobs
        )
    )


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
    check(exact, loops(exact))
    case = fedlps_case(UNEQUAL, batch=batch)
    timed = loops(case)
    check(case, timed)
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
    check(exact, {"loop": Compact(exact).train, "vmap": Vmapped(exact, compiled=False).train})
    case = fedavg_case()
    timed = loops(case)
    check(case, timed)
    single = ["loop, 1 thread", "compiled vmap, 1 thread"]
    ours, both = "engine, 1 thread", [*single, "loop, 2 threads", "compiled vmap, 2 threads"]
    claims = [
        Claim("better of loop and compiled vmap, one thread each", single, ours, 6, 12),
        Claim("better of both and of their threads, engine two", both, "engine, 2 threads", 6, 12),
        Claim("better of both and of their threads, engine one", both, ours, 6, 12),
        Claim("engine, two threads against one", [ours], "engine, 2 threads", 1.7, 1.95),
    ]
    compare(benchmark, engines(case) | timed, claims, repeats=REPEATS, flops=flops(case))
