"""Whole rounds timed in one process, taking turns, after they were found equal; what they have to be against ours."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bench.rounds.engine import torch_threads
from fedlps_kernels import backends

Calls = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Claim:
    """The best of some alternatives takes at least must, better goal, times as long as one of ours."""

    name: str
    slower: Sequence[str]
    ours: str
    must: float
    goal: float


@dataclass(frozen=True)
class Times:
    """Of one alternative's calls: seconds on the clock, and of all cores together."""

    wall: list[float]
    cpu: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.wall)

    @property
    def minimum(self) -> float:
        return min(self.wall)


def products_per_second() -> float:
    """FLOP/s of a float32 product of 1024 x 1024 matrices on one thread: the library's best, near the core's peak."""
    left, right = torch.rand(1024, 1024), torch.rand(1024, 1024)
    with torch_threads(1):
        best = min(_seconds(lambda: left @ right)[0] for _ in range(10))
    return 2 * 1024**3 / best


def interleaved(calls: Calls, repeats: int) -> dict[str, Times]:
    """Each call so many times, by turns, after one to warm up."""
    times = {name: Times([], []) for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            wall, cpu = _seconds(call)
            times[name].wall.append(wall)
            times[name].cpu.append(cpu)
    return times


def compare(benchmark: Any, calls: Calls, claims: Sequence[Claim], *, repeats: int, flops: float) -> None:
    """Times the calls, prints what each took and what became of the claims, and leaves both in the benchmark's JSON.

    flops: what one call multiplies and adds, gradients included. The first call is what pytest-benchmark itself times.
    """
    report(benchmark, interleaved(calls, repeats), claims, flops=flops)
    benchmark.pedantic(next(iter(calls.values())), rounds=min(repeats, 5))


def report(benchmark: Any, times: Mapping[str, Times], claims: Sequence[Claim], *, flops: float) -> None:
    """Prints times and claims, and leaves them in the benchmark's JSON; ratios are to the first."""
    first, ceiling = next(iter(times)), products_per_second()
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {backends()[0].cpu}")
    print(f"one thread multiplies matrices at {ceiling / 1e9:.0f} GFLOP/s; {len(times[first].wall)} rounds")
    print(f"{'':>28} {'minimum ms':>11} {'median ms':>11} {'cpu ms':>10} {'ratio':>8} {'GFLOP/s':>8}")
    for name, own in times.items():
        ratio, rate = own.median / times[first].median, flops / own.minimum / 1e9
        columns = f"{own.minimum * 1e3:>11.2f} {own.median * 1e3:>11.2f} {min(own.cpu) * 1e3:>10.2f}"
        print(f"{name:>28} {columns} {ratio:>8.2f} {rate:>8.1f}")
        benchmark.extra_info[name] = {
            "minimum_s": own.minimum,
            "median_s": own.median,
            "cpu_s": min(own.cpu),
            "ratio": ratio,
            "gflop_per_s": rate,
        }
    for claim in claims:
        median, minimum = (
            min(getattr(times[name], kind) for name in claim.slower) / getattr(times[claim.ours], kind)
            for kind in ("median", "minimum")
        )
        verdict = "goal" if median >= claim.goal else "reached" if median >= claim.must else "MISSED"
        asked = f"must {claim.must:g}, goal {claim.goal:g}"
        print(f"{claim.name}: {median:.2f}x by medians, {minimum:.2f}x by minima ({asked}): {verdict}")
        benchmark.extra_info[claim.name] = {"median": median, "minimum": minimum, "verdict": verdict}
    benchmark.extra_info["matrix_product_gflop_per_s"] = ceiling / 1e9


def _seconds(call: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu
