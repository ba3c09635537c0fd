"""Local steps of ten clients on VGG11, one thread each: python -m pytest -s bench/rounds/vgg.py

Gathering is part of neither: the loops begin with a copy of weights that are gathered already and leave what comes out
where it is; of the engine two further steps are taken, a long round less a short one. The short round as a whole, with
the engine's gathering and the submodels it returns, is shown and judged beside them.
Save with --benchmark-json=bench/results/vgg.json.
"""

from collections.abc import Callable, Sequence

import torch

from bench.rounds.case import RATIOS, UNEQUAL, Case, fedlps_case, flops, unfolded, vgg_network
from bench.rounds.compact import Compact
from bench.rounds.engine import engine, torch_threads
from bench.rounds.equality import Train, check
from bench.rounds.masked import Masked
from bench.rounds.measure import Claim, Times, interleaved, report
from fedlps.engine.result import LocalResult

REPEATS = 5  # of some ten seconds
SHORT, LONG = 2, 10  # steps of a round
Loop = Masked | Compact


def workload(ratios: Sequence[float], steps: int, dtype: torch.dtype) -> Case:
    """So many steps of every client."""
    return fedlps_case(ratios, vgg_network(), samples=20 * steps, epochs=1, batch=20, dtype=dtype)


def loops(ratios: Sequence[float]) -> dict[str, Callable[[Case], Loop]]:
    """The gathered loop in both memory layouts, and for every client in the one that suits its width."""
    plain, last = torch.contiguous_format, torch.channels_last
    return {
        "masked": Masked,
        "compact, NCHW": lambda case: Compact(case, [plain for _ in ratios]),
        "compact, channels last": lambda case: Compact(case, [last for _ in ratios]),
        "compact, better of both": lambda case: Compact(case, [plain if ratio == 1 else last for ratio in ratios]),
    }


def trainings(case: Case, makes: dict[str, Callable[[Case], Loop]]) -> dict[str, Train]:
    """The engine and the loops, from the received parameters to full width; each is made when its turn comes."""
    ours: dict[str, Train] = {"engine": lambda: list(unfolded(case, training(case)()))}
    return ours | {name: lambda make=make: make(case).train() for name, make in makes.items()}


def training(case: Case) -> Callable[[], LocalResult]:
    """A round of the engine."""
    ours = engine(case)
    return lambda: ours.train(case.parameters, case.plan, case.cohort)


def advance(loop: Loop) -> int:
    """What is timed of a loop: all steps of all clients. Returns how often selections changed."""
    return sum(client.changes for client in loop.clients())


def further(long: Times, short: Times) -> Times:
    """As many steps as a short round has, without what a round costs besides: fastest less fastest, and so on."""
    parts = (LONG - SHORT) / SHORT
    pairs = ((long.wall, short.wall), (long.cpu, short.cpu))
    wall, cpu = ([(b - a) / parts for b, a in zip(sorted(more), sorted(less), strict=True)] for more, less in pairs)
    return Times(wall, cpu)


def test_unequal_clients(benchmark):
    """Two clients of each ratio 1 .. 1/16 under FedLPS, two steps each, against full-width and gathered PyTorch.

    In float32 the first step alone is compared: of the millions of ReLUs and pooling windows some decide otherwise for
    half of the clients behind a second step, with torch's own loops too.
    """
    with torch_threads(1):
        for ratios, steps, dtype in ((RATIOS[::2], SHORT, torch.float64), (UNEQUAL, 1, torch.float32)):
            checked = workload(ratios, steps, dtype)
            check(checked, trainings(checked, loops(ratios)))
        case, longer = workload(UNEQUAL, SHORT, torch.float32), workload(UNEQUAL, LONG, torch.float32)
        contenders = {name: make(case) for name, make in loops(UNEQUAL).items()}
        assert not any(map(advance, contenders.values()))  # nothing is gathered again
        times = interleaved(
            {
                "long": training(longer),
                "engine, whole round": training(case),
                **{name: lambda loop=loop: advance(loop) for name, loop in contenders.items()},
            },
            REPEATS,
        )
        masked, *compact = contenders
        steps, whole = "engine, further steps", "engine, whole round"
        times = {steps: further(times.pop("long"), times[whole])} | times
        claims = [
            Claim("masked", [masked], steps, 9, 13),
            Claim("compact, better memory layout", compact, steps, 2.5, 3.6),
            Claim("masked, engine's whole round", [masked], whole, 9, 13),
            Claim("compact, better memory layout, engine's whole round", compact, whole, 2.5, 3.6),
        ]
        report(benchmark, times, claims, flops=flops(case))
        benchmark.pedantic(training(case), rounds=REPEATS)
