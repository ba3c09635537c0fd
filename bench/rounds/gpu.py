"""Steps and rounds of the CUDA engine on VGG11: python -m pytest -s -m gpu bench/rounds/gpu.py

A step is timed as one replay of its graph, beside whole training steps by library calls; a round by the clock, from the
received parameters to the result on the host. Save with --benchmark-json=bench/results/gpu.json.
"""

import statistics
import time
from typing import Any

import pytest
import torch

from bench import floors
from bench.kernels.device import measured_ceilings, report
from bench.kernels.mixes import MIXES, ratios
from bench.rounds.case import UNEQUAL, Case, fedlps_case, mnist_network, vgg_network
from bench.rounds.steps import executor, step
from fedlps.engine.cuda.jobs import counts_of
from fedlps.engine.cuda.launches import Precision

pytestmark = pytest.mark.gpu
BATCH = 20  # of the preset cifar10
SAMPLES = 180  # of a client's round: nine tenths of 200
IMAGES = 2000  # different ones, where clients are many
REPEATS = 5
MUST = {10: 2.0, 100: 3.0}  # times as fast as the best of the others, in TF32
MOST_MS = 2.5 * 1.8  # 100 clients in bf16: of the floor with what may be fused on paper


def one_step(mix: str, clients: int) -> Case:
    """A single batch of every client."""
    return fedlps_case(ratios(mix, clients), vgg_network(), samples=BATCH, epochs=1, batch=BATCH)


def floor(case: Case, device: torch.device | str, precision: Precision) -> float:
    """Seconds of a step on paper, at the ceilings measured in this process."""
    counts = counts_of(case.plan.jobs, len(case.layout.groups) - 1)
    works = floors.step(case.program, counts, len(case.batches(0)[0]), precision)
    return floors.seconds(works, measured_ceilings(device, precision))


def compare_step(benchmark: Any, case: Case, mix: str, device: str, precision: Precision, **more: float) -> None:
    """Prints and records the step of a case, its floor, and what it gains on the best of the others."""
    clients, least = len(case.plan.jobs), floor(case, device, precision)
    found = step(f"step, {clients} clients, {mix}", case, device, precision, **more)
    others = {name: row.ratio for name, row in found.rows.items() if not name.startswith("ours") and row.ratio}
    best = min(others, key=lambda name: others[name])
    told = {"mix": mix, "clients": clients, "floor_s": least, "best": best, "gain": others[best]}
    report(benchmark, [found], **told)
    times = found.ours.median / least
    print(f"{others[best]:.2f}x as fast as the best ({best}); {times:.2f} times the floor of {least * 1e3:.2f} ms")
    benchmark.extra_info["times_the_floor"] = times
    if mix == "uniform" and precision == "tf32" and clients in MUST:
        print(f"must be {MUST[clients]:g}x: {'reached' if others[best] >= MUST[clients] else 'MISSED'}")
    if mix == "uniform" and precision == "bf16" and clients == 100:
        print(f"must be within {MOST_MS:g} ms: {'reached' if found.ours.median * 1e3 <= MOST_MS else 'MISSED'}")


def time_rounds(benchmark: Any, case: Case, name: str, device: str, precision: Precision, repeats: int) -> None:
    """Prints and records seconds per round, the first apart: it compiles and captures."""
    engine, spent = executor(case, device, precision), []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        engine.train(case.parameters, case.plan, case.cohort)
        spent.append(time.perf_counter() - began)
    first, *others = spent
    steps = max(len(case.batches(job.client)) for job in case.plan.jobs)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    median = statistics.median(others)
    told = {"round": name, "device": device, "precision": precision, "clients": len(case.plan.jobs), "steps": steps}
    benchmark.extra_info.update(told, first_s=first, median_s=median, seconds=others, peak_bytes=peak)
    print(f"\n{name}, {precision}: {median:.4f} s a round of {steps} steps, {median / steps * 1e3:.3f} ms a step")
    print(f"the first {first:.2f} s; at most {peak / 2**30:.1f} GiB on the device")
    benchmark.pedantic(lambda: None)


@pytest.mark.parametrize("precision", ["tf32", "fp32", "bf16"])
@pytest.mark.parametrize("clients", [10, 100])
def test_step(gpu, benchmark, clients, precision):
    compare_step(benchmark, one_step("uniform", clients), "uniform", gpu, precision)


@pytest.mark.parametrize("mix", [mix for mix in MIXES if mix != "uniform"])
def test_step_of_other_mixes(gpu, benchmark, mix):
    compare_step(benchmark, one_step(mix, 10), mix, gpu, "tf32")


@pytest.mark.parametrize("precision", ["tf32", "fp32", "bf16"])
@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_preset_like_rounds(gpu, benchmark, name, precision):
    """Ten clients of the presets' sizes."""
    network, batch = (vgg_network(), BATCH) if name == "cifar10" else (mnist_network(), 32)
    case = fedlps_case(UNEQUAL, network, samples=SAMPLES, batch=batch)
    time_rounds(benchmark, case, f"preset {name}", gpu, precision, REPEATS)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_thousand_clients(gpu, benchmark, precision):
    """One undivided cohort of mixed capabilities."""
    case = fedlps_case(ratios("uniform", 1000), vgg_network(), samples=SAMPLES, batch=BATCH, images=IMAGES)
    torch.cuda.reset_peak_memory_stats()
    time_rounds(benchmark, case, "1000 clients, uniform", gpu, precision, 2)
