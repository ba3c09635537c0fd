"""Round time and memory against the number of clients: FEDLPS_DATA=... python -m pytest -s bench/rounds/clients.py

The preset scale with 10^2 to 10^5 clients, 100 in a round, each number in a process of its own, whose peak memory is
its own. Save with --benchmark-json=bench/results/clients.json; SCALE_ROUNDS=n plays fewer rounds than 20.
"""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

CLIENTS = (100, 1_000, 10_000, 100_000)
SELECTED = 100
ROUNDS = int(os.environ.get("SCALE_ROUNDS", "20"))
START_S, PEAK_MIB = 10, 2048  # what 100,000 clients may take

pytestmark = pytest.mark.skipif(
    not Path(os.environ.get("FEDLPS_DATA", ""), "mnist").is_dir(), reason="needs MNIST in FEDLPS_DATA"
)


def play(clients: int, folder: str) -> None:
    """In the child: plays a run and prints what it took as a line of JSON."""
    began = time.perf_counter()
    from fedlps.launch import prepare

    overrides = {
        "clients": clients,
        "fraction": SELECTED / clients,
        "rounds": ROUNDS,
        "evaluation.every": ROUNDS,
    }
    with prepare("scale", out=folder, overrides=overrides) as session:
        started = time.perf_counter() - began
        run = session.play()
    metrics = run.metrics
    samples, epochs, batch = 90, run.config.epochs, run.config.batch  # nine tenths of the 100 are for training
    steps = SELECTED * epochs * -(-samples // batch)
    round_s = float(metrics["train_s"][-1] - metrics["train_s"][0]) / (ROUNDS - 1)
    spent = {
        "start_s": started,
        "round_s": round_s,
        "client_steps_per_s": steps / round_s,
        "evaluation_s": float(metrics["eval_s"][-1]),
        "whole_s": time.perf_counter() - began,
        "peak_mib": peak_mib(),
        "executor": session.notes[0],
    }
    print(json.dumps(spent))


def peak_mib() -> float:
    """Most memory this process held, as Linux counts it; getrusage would also count the process it was forked from."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.parametrize("clients", CLIENTS)
def test_clients(benchmark, clients, tmp_path):
    """One run; the figure is in docs/performance.md."""
    command = [
        sys.executable,
        "-c",
        f"from bench.rounds.clients import play; play({clients}, {str(tmp_path / 'run')!r})",
    ]

    def child() -> dict[str, float | str]:
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr
        found: dict[str, float | str] = json.loads(process.stdout.splitlines()[-1])
        return found

    spent = benchmark.pedantic(child, rounds=1)
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, {ROUNDS} rounds of {SELECTED}; {spent['executor']}")
    print(
        f"{clients:>7} clients: start {spent['start_s']:.1f} s, round {spent['round_s']:.3f} s, "
        f"{spent['client_steps_per_s']:.0f} client-steps/s, evaluation {spent['evaluation_s']:.1f} s, "
        f"whole {spent['whole_s']:.1f} s, peak {spent['peak_mib']:.0f} MiB"
    )
    benchmark.extra_info.update(spent)
    if clients == max(CLIENTS):
        assert spent["start_s"] <= START_S
        assert spent["peak_mib"] <= PEAK_MIB
