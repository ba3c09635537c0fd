"""Decisions, values and partitions of one client's P-UCBV over a sequence of participations."""

from collections.abc import Mapping
from typing import Any

import numpy

from fedlps.bandit import Bandit, BanditParameters
from tests.golden.compare import close, exact
from tests.golden.options import DOUBLE, Options


def run(case: Mapping[str, Any], arrays: Mapping[str, numpy.ndarray], options: Options) -> list[str]:
    """Replay the case's participations."""
    given = {name: case[name] for name in ("xi", "initial", "rho", "delta", "arms") if name in case}
    parameters = BanditParameters(**given)
    seed, client, want = case["seed"], case["client"], case["want"]
    bandit = Bandit.start(parameters, seed, client)
    ratios = [bandit.ratio]
    mismatches = exact("steps", [len(want["values"]), len(want["partitions"])], [len(case["steps"])] * 2)
    for index, step in enumerate(case["steps"]):
        bandit = bandit.update(parameters, seed, client, **step)
        ratios.append(bandit.ratio)
        ranges = [[partition.low, partition.high] for partition in bandit.partitions]
        pulls = [len(partition.rewards) for partition in bandit.partitions]
        partitions = want["partitions"][index]
        mismatches += close(f"values[{index}]", bandit.values(parameters), want["values"][index], DOUBLE)
        mismatches += close(f"partitions[{index}]", ranges, [entry[:2] for entry in partitions], DOUBLE)
        mismatches += exact(f"partitions[{index}] rewards", pulls, [entry[2] for entry in partitions])
    return mismatches + close("ratios", ratios, want["ratios"], DOUBLE)
