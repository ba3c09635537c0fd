"""Local steps of ten clients on VGG11, one thread each: python -m pytest -s bench/rounds/vgg.py

The loops' times are those of their steps alone: they begin with a copy of weights that are gathered already, and leave
what comes out where it is. The engine's time contains its gathering and the submodels it returns.
Save with --benchmark-json=bench/results/vgg.json.
"""

from collections.abc import Callable, Sequence

import torch

from bench.rounds.case import RATIOS, UNEQUAL, Case, fedlps_case, flops, unfolded, vgg_network
from bench.rounds.compact import Compact
from bench.rounds.engine import engine, torch_threads
from bench.rounds.equality import Train, check
from bench.rounds.masked import Masked
from bench.rounds.measure import Claim, compare

REPEATS = 5  # of some ten seconds
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
    ours: dict[str, Train] = {
        "engine": lambda: list(unfolded(case, engine(case).train(case.parameters, case.plan, case.cohort)))
    }
    return ours | {name: lambda make=make: make(case).train() for name, make in makes.items()}


def advance(loop: Loop) -> int:
    """What is timed of a loop: all steps of all clients. Returns how often selections changed."""
    return sum(client.changes for client in loop.clients())


def test_unequal_clients(benchmark):
    """Two clients of each ratio 1 .. 1/16 under FedLPS, two steps each, against full-width and gathered PyTorch.

    In float32 the first step alone is compared: of the millions of ReLUs and pooling windows some decide otherwise for
    half of the clients behind a second step, with torch's own loops too.
    """
    with torch_threads(1):
        for ratios, steps, dtype in ((RATIOS[::2], 2, torch.float64), (UNEQUAL, 1, torch.float32)):
            checked = workload(ratios, steps, dtype)
            check(checked, trainings(checked, loops(ratios)))
        case = workload(UNEQUAL, 2, torch.float32)
        contenders = {name: make(case) for name, make in loops(UNEQUAL).items()}
        assert not any(map(advance, contenders.values()))  # nothing is gathered again
        ours = engine(case)
        calls: dict[str, Callable[[], object]] = {"engine": lambda: ours.train(case.parameters, case.plan, case.cohort)}
        calls |= {name: lambda loop=loop: advance(loop) for name, loop in contenders.items()}
        masked, *compact = contenders
        claims = [
            Claim("masked", [masked], "engine", 9, 13),
            Claim("compact, better memory layout", compact, "engine", 2.5, 3.6),
        ]
        compare(benchmark, calls, claims, repeats=REPEATS, flops=flops(case))
