"""Every method's seconds of training per executed FLOP, against FedAvg's: python -m pytest -s bench/rounds/methods.py

With MNIST in FEDLPS_DATA the preset mnist, else digits, whose rounds are so short that the loop around them shows. Save
with --benchmark-json=bench/results/methods.json.
"""

import os
import platform
import statistics
from pathlib import Path

import pytest

from fedlps.launch import prepare
from fedlps.methods import METHODS
from fedlps_kernels import backends

ROUNDS, REPEATS = 4, 3
MUST, GOAL = 2.0, 1.3
PRESET = "mnist" if Path(os.environ.get("FEDLPS_DATA", ""), "mnist").is_dir() else "digits"


def played(method: str, folder: Path) -> tuple[float, float, str]:
    """Seconds and FLOP of the rounds after the first, and which executor trained."""
    overrides = {"rounds": ROUNDS, "evaluation.every": ROUNDS}
    with prepare(PRESET, method=method, out=folder, overrides=overrides) as session:
        metrics = session.play().metrics
    spent = [float(metrics[name][-1] - metrics[name][0]) for name in ("train_s", "flops_executed")]
    return spent[0], spent[1], session.notes[0]


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[float, float, str]]]:
    """Every method so many times, by turns."""
    folder = tmp_path_factory.mktemp("runs")
    found: dict[str, list[tuple[float, float, str]]] = {name: [] for name in METHODS}
    for repeat in range(REPEATS):
        for name in METHODS:
            found[name].append(played(name, folder / f"{name}-{repeat}"))
    return found


def test_methods(benchmark, costs, tmp_path):
    """Rounds include what surrounds the executor: selection, aggregation, the client state."""
    rates = {name: [seconds / flops for seconds, flops, _ in own] for name, own in costs.items()}
    reference = {kind: kind(rates["fedavg"]) for kind in (min, statistics.median)}
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, {backends()[0].cpu}")
    print(f"preset {PRESET}, {ROUNDS - 1} rounds, {REPEATS} runs; {costs['fedavg'][0][2]}")
    print(f"{'':>14} {'ms/round':>9} {'GFLOP/s':>8} {'x fedavg, minimum':>18} {'median':>7}")
    worst = ""
    for name in sorted(rates, key=lambda name: min(rates[name])):
        seconds = statistics.median(own[0] for own in costs[name]) / (ROUNDS - 1)
        minimum, median = (kind(rates[name]) / reference[kind] for kind in (min, statistics.median))
        verdict = "goal" if median <= GOAL else "reached" if median <= MUST else "MISSED"
        speed = 1e-9 / min(rates[name])
        print(f"{name:>14} {seconds * 1e3:>9.1f} {speed:>8.1f} {minimum:>18.2f} {median:>7.2f} {verdict}")
        benchmark.extra_info[name] = {"round_s": seconds, "s_per_flop": min(rates[name]), "ratio": median}
        worst = name
    print(f"dearest: {worst} (must {MUST:g}x, goal {GOAL:g}x)")
    benchmark.extra_info |= {"preset": PRESET, "executor": costs["fedavg"][0][2]}
    benchmark.pedantic(lambda: played("fedavg", tmp_path / "run"), rounds=1)
