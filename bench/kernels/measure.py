"""Alternatives timed in one process, interleaved, after they were found equal; ratios and the machine's own ceiling."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fedlps_kernels import backends

ROUNDS = 30


def copy_bandwidth() -> float:
    """GB/s, read and written, of copying 64 MiB: what no kernel that streams from memory exceeds."""
    source, target = torch.ones(2**24), torch.empty(2**24)
    best = min(_seconds(lambda: target.copy_(source)) for _ in range(10))
    return 2 * source.numel() * 4 / best / 1e9


def product_rate() -> float:
    """GFLOP/s of a float32 product of 1024 x 1024 matrices on torch's threads: the library's best, near the peak."""
    left, right = torch.rand(1024, 1024), torch.rand(1024, 1024)
    return 2 * 1024**3 / min(_seconds(lambda: left @ right) for _ in range(10)) / 1e9


def compare(
    benchmark: Any, alternatives: Mapping[str, Callable[[], object]], *, moved_bytes: int = 0, operations: int = 0
) -> None:
    """Times each alternative ROUNDS times, taking turns; prints a table and leaves it in pytest-benchmark's JSON.

    moved_bytes: what one call has to read and write at least. operations: or the additions and multiplications that it
    has to do, where these take longer. The first alternative is ours, and is what pytest-benchmark itself times.
    """
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for call in alternatives.values():
        call()
    for _ in range(ROUNDS):
        for name, call in alternatives.items():
            times[name].append(_seconds(call))
    ours, *_ = alternatives
    work, unit = (operations, "GFLOP/s") if operations else (moved_bytes, "GB/s")
    what, ceiling = ("a product of matrices", product_rate()) if operations else ("copying", copy_bandwidth())
    print(f"\n{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {backends()[0].cpu}")
    print(f"{what} runs at {ceiling:.1f} {unit}; {ROUNDS} rounds")
    print(f"{'':>24} {'minimum us':>12} {'median us':>12} {'ratio':>8} {unit:>8} {'share':>8}")
    for name, seconds in times.items():
        median, ratio = statistics.median(seconds), statistics.median(seconds) / statistics.median(times[ours])
        rate = work / min(seconds) / 1e9
        times_us = f"{min(seconds) * 1e6:>12.1f} {median * 1e6:>12.1f}"
        print(f"{name:>24} {times_us} {ratio:>8.2f} {rate:>8.2f} {rate / ceiling:>8.0%}")
        benchmark.extra_info[name] = {"minimum_s": min(seconds), "median_s": median, "ratio": ratio, unit: rate}
    benchmark.extra_info[f"ceiling {unit}"] = ceiling
    benchmark.pedantic(alternatives[ours], rounds=ROUNDS)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
