"""Alternatives timed on any device, after they were found equal: launches of the CUDA engine beside library calls.

On a GPU what can be captured is timed as replays of a graph, so that launching costs ours and theirs alike what it
costs in a captured step; the rest by events, with what the host takes to launch it. Calls go through several sets of
inputs, together larger than the second cache.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from fedlps.engine.cuda.launches import Precision
from fedlps_kernels import backends

Call = Callable[[], object]
TOLERANCES: dict[Precision, float] = {"fp32": 1e-5, "tf32": 1e-3, "bf16": 1e-2}  # relative, of norms
LONG, SECONDS = 50, 0.3  # samples, and what they may take; of calls that take longer there are at least SHORT
SHORT = 10
TOGETHER = 200e-6  # seconds of a sample, at least
STREAMS = 32  # as many as torch hands out


@dataclass(frozen=True)
class Alternative:
    """One way to compute something.

    make: the calls, one per set of inputs, and what the first call leaves, in a form that all alternatives share. It is
    made when its turn comes and dropped afterwards. captured: whether a graph may hold the calls.
    """

    name: str
    make: Callable[[], tuple[list[Call], Callable[[], list[torch.Tensor]]]]
    captured: bool = True


@dataclass(frozen=True)
class Row:
    """Of one alternative: seconds per call, median and the quantiles 10 % and 90 %; ratio: to ours. why: if untimed."""

    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    samples: int = 0
    ratio: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Ceilings:
    """Measured in this process: bytes per second, read and written, of a copy; FLOP/s of a large product."""

    copy: float
    product: float


@dataclass(frozen=True)
class Comparison:
    """Alternatives to one launch, or to a few. operations, moved_bytes: what a call has to do at least."""

    name: str
    device: str
    precision: Precision
    operations: int
    moved_bytes: int
    ceilings: Ceilings
    rows: dict[str, Row] = field(default_factory=dict)

    @property
    def ours(self) -> Row:
        """The first."""
        return next(iter(self.rows.values()))

    @property
    def floor(self) -> float:
        """Seconds, of a machine that reaches the nearer ceiling."""
        return max(self.operations / self.ceilings.product, self.moved_bytes / self.ceilings.copy)

    def line(self) -> str:
        """For people."""
        own, others = self.ours, {name: row for name, row in self.rows.items() if row.ratio}
        rates = f"{self.operations / own.median / 1e12:8.3f} TFLOP/s {self.moved_bytes / own.median / 1e12:7.3f} TB/s"
        head = f"{self.name:>30} {own.median * 1e6:10.1f} us [{own.low * 1e6:.1f}, {own.high * 1e6:.1f}] {rates}"
        tail = ", ".join(f"{name} {row.ratio:.2f}x" for name, row in others.items())
        untimed = "".join(f"; {name}: {row.why}" for name, row in self.rows.items() if row.why)
        return f"{head} {self.floor / own.median:6.1%} of the ceiling | {tail}{untimed}"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "floor": self.floor}


def compare(
    name: str,
    alternatives: Sequence[Alternative],
    device: torch.device | str,
    precision: Precision,
    *,
    operations: int = 0,
    moved_bytes: int = 0,
    ceilings: Ceilings | None = None,
    tolerance: float | None = None,
) -> Comparison:
    """Checks and times the alternatives; the first is ours, and is timed once more behind the others.

    tolerance: instead of that of the precision. AssertionError, naming the alternative, where a result differs.
    """
    allowed = TOLERANCES[precision] if tolerance is None else tolerance
    found = Comparison(
        *(name, str(device), precision, operations, moved_bytes), ceilings or measured_ceilings(device, precision)
    )
    wanted: list[torch.Tensor] = []
    ours, *_ = alternatives
    with library(precision):
        for one in [*alternatives, ours]:
            title = f"{one.name}, again" if one.name in found.rows else one.name
            try:
                calls, results = one.make()
                calls[0]()
                if wanted:
                    check(f"{name}: {one.name}", results(), wanted, allowed)
                else:
                    wanted = [result.clone() for result in results()]
                times = timed(calls, torch.device(device), captured=one.captured)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                assert one is not ours, f"{name}: no room for ours"
                found.rows[title] = Row(why="no room")
                continue
            del calls, results  # before the next are made
            low, *_, high = statistics.quantiles(times, n=10, method="inclusive") if len(times) > 1 else times * 2
            median = statistics.median(times)
            first = found.ours.median if found.rows else median
            found.rows[title] = Row(median, low, high, len(times), median / first)
    return found


def check(what: str, results: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], tolerance: float) -> None:
    """Client by client: the norm of the difference, relative to that of ours."""
    for client, (got, want) in enumerate(zip(results, wanted, strict=True)):
        assert got.shape == want.shape, f"{what}: client {client} has {tuple(got.shape)}, ours {tuple(want.shape)}"
        apart, whole = (float(torch.linalg.vector_norm(one)) for one in (got.double() - want.double(), want.double()))
        assert apart <= tolerance * whole, f"{what}: client {client} differs by {apart:.3g} of {whole:.3g}"


def timed(calls: Sequence[Call], device: torch.device, *, captured: bool) -> list[float]:
    """Seconds per call, LONG of them or what fits into SECONDS, in the mean over the sets of inputs if captured."""
    for call in calls:
        call()
    if device.type != "cuda":
        estimate = max(_wall(calls[0]), 1e-9)
        return [_wall(calls[number % len(calls)]) for number in range(_samples(estimate))]
    estimate = max(_between_events(list(calls)) / len(calls), 1e-9)
    if not captured:
        return [_between_events([calls[number % len(calls)]]) for number in range(_samples(estimate))]
    turns = max(1, int(TOGETHER / estimate / len(calls)))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(turns):
            for call in calls:
                call()
    graph.replay()
    each = turns * len(calls)
    return [_between_events([graph.replay]) / each for _ in range(_samples(estimate * each))]


def branches(calls: Sequence[Call], device: torch.device | str) -> Call:
    """All of the calls, side by side on streams where there are any: captured, each stream is a branch of the graph."""
    if torch.device(device).type != "cuda":
        return lambda: [call() for call in calls]
    streams = [torch.cuda.Stream() for _ in range(min(len(calls), STREAMS))]

    def fork() -> None:
        main = torch.cuda.current_stream()
        for first, stream in enumerate(streams):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                for call in calls[first :: len(streams)]:
                    call()
        for stream in streams:
            main.wait_stream(stream)

    return fork


def sets(bytes_of_one: int, device: torch.device | str) -> int:
    """How many sets of inputs are larger together than twice the second cache; on a CPU two."""
    if torch.device(device).type != "cuda":
        return 2
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return max(1, min(-(-2 * cache // max(bytes_of_one, 1)), 64))


_CEILINGS: dict[tuple[str, Precision], Ceilings] = {}


def measured_ceilings(device: torch.device | str, precision: Precision) -> Ceilings:
    """Once per process, device and precision."""
    key = str(device), precision
    if key not in _CEILINGS:
        _CEILINGS[key] = ceilings(device, precision)
    return _CEILINGS[key]


def ceilings(
    device: torch.device | str, precision: Precision, *, entries: int | None = None, side: int | None = None
) -> Ceilings:
    """Of a copy of so many floats and a product of square matrices, random numbers both; large ones unless given."""
    big = torch.device(device).type == "cuda"
    entries, side = entries or (2**28 if big else 2**22), side or (8192 if big else 512)
    source = torch.rand(entries, device=device)
    target, store = torch.empty_like(source), torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device).to(store) for _ in range(2))
    with library(precision):
        copy = min(timed([lambda: target.copy_(source)], torch.device(device), captured=False))
        product = min(timed([lambda: torch.mm(left, right)], torch.device(device), captured=False))
    return Ceilings(2 * source.nbytes / copy, 2 * side**3 / product)


@contextmanager
def library(precision: Precision) -> Iterator[None]:
    """The library's products in this precision, its convolutions by what it finds fastest for each shape."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark
    products.allow_tf32 = convolutions.allow_tf32 = precision == "tf32"
    convolutions.benchmark = True
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark = before


def report(benchmark: Any, comparisons: Sequence[Comparison], **told: object) -> None:
    """Prints a line per comparison and leaves all of it in pytest-benchmark's JSON; told: what they have in common."""
    first = comparisons[0]
    named = torch.cuda.get_device_name() if first.device == "cuda" else backends()[0].cpu
    print(f"\n{named}, {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}; {told}")
    limits = first.ceilings
    rates = f"copying {limits.copy / 1e12:.3f} TB/s, a large {first.precision} product"
    print(f"{rates} {limits.product / 1e12:.3f} TFLOP/s")
    for one in comparisons:
        print(one.line())
    benchmark.extra_info.update(told, machine=named, comparisons=[one.record() for one in comparisons])
    benchmark.pedantic(lambda: None)  # its own clock knows nothing of a device


def _samples(estimate: float) -> int:
    return max(SHORT, min(LONG, int(SECONDS / estimate)))


def _wall(call: Call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _between_events(calls: Sequence[Call]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for call in calls:
        call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3
