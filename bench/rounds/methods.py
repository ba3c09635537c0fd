"""Every method's seconds of training per executed FLOP, against FedAvg's: python -m pytest -s bench/rounds/methods.py

With MNIST in FEDLPS_DATA the preset mnist, else digits, whose rounds are so short that the loop around them shows. Save
with --benchmark-json=bench/results/methods.json.
"""

import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.rounds.engine import training_seconds
from fedlps.launch import prepare
from fedlps.methods import METHODS
from fedlps_kernels import backends

ROUNDS, REPEATS = 5, 3
TIMED = ROUNDS - 2
MUST, GOAL = 2.0, 1.3
PRESET = "mnist" if Path(os.environ.get("FEDLPS_DATA", ""), "mnist").is_dir() else "digits"


@dataclass(frozen=True)
class Played:
    """Of the rounds between the first and the last, which is evaluated and may train for that: seconds in the engine's
    training and in all but evaluation, and FLOP.
    """

    training_s: float
    rounds_s: float
    flops: float
    executor: str


def played(method: str, folder: Path) -> Played:
    """Plays a few rounds of a method."""
    overrides = {"rounds": ROUNDS, "evaluation.every": ROUNDS}
    after: list[float] = []  # seconds of training so far, round by round
    with (
        prepare(PRESET, method=method, out=folder, overrides=overrides) as session,
        training_seconds() as spent,
    ):
        metrics = session.play(lambda number, metrics: after.append(sum(spent))).metrics
    rounds_s, flops = (float(metrics[name][-2] - metrics[name][0]) for name in ("train_s", "flops_executed"))
    return Played(after[-2] - after[0], rounds_s, flops, session.notes[0])


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Played]]:
    """Every method so many times, by turns."""
    folder = tmp_path_factory.mktemp("runs")
    found: dict[str, list[Played]] = {name: [] for name in METHODS}
    for repeat in range(REPEATS):
        for name in METHODS:
            found[name].append(played(name, folder / f"{name}-{repeat}"))
    return found


def test_methods(benchmark, costs, tmp_path):
    """The claim is about the engine's training; beside it whole rounds: with selection, aggregation, the bandit."""
    rates = {name: [own.training_s / own.flops for own in runs] for name, runs in costs.items()}
    reference = {kind: kind(rates["fedavg"]) for kind in (min, statistics.median)}
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, {backends()[0].cpu}")
    print(f"preset {PRESET}, {TIMED} rounds, {REPEATS} runs; {costs['fedavg'][0].executor}")
    print(f"{'':>14} {'ms/round':>9} {'training':>9} {'GFLOP/s':>8} {'x fedavg, minimum':>18} {'median':>7}")
    worst = ""
    for name in sorted(rates, key=lambda name: min(rates[name])):
        whole, training = (
            statistics.median(getattr(own, kind) for own in costs[name]) / TIMED * 1e3
            for kind in ("rounds_s", "training_s")
        )
        minimum, median = (kind(rates[name]) / reference[kind] for kind in (min, statistics.median))
        verdict = "goal" if median <= GOAL else "reached" if median <= MUST else "MISSED"
        speed = 1e-9 / min(rates[name])
        print(f"{name:>14} {whole:>9.1f} {training:>9.1f} {speed:>8.1f} {minimum:>18.2f} {median:>7.2f} {verdict}")
        benchmark.extra_info[name] = {
            "round_s": whole / 1e3,
            "training_s": training / 1e3,
            "s_per_flop": min(rates[name]),
            "ratio": median,
        }
        worst = name
    print(f"dearest: {worst} (must {MUST:g}x, goal {GOAL:g}x)")
    benchmark.extra_info |= {"preset": PRESET, "executor": costs["fedavg"][0].executor}
    benchmark.pedantic(lambda: played("fedavg", tmp_path / "run"), rounds=1)
