"""`python -m bench.gpu.thousand [CLIENTS]`: a round of VGG11 clients of mixed capabilities as one undivided cohort.

50 steps of batch 20, as in preset cifar10 (200 images, 5 epochs). Of the seconds of a round, those of its steps alone.
"""

import json
import sys
import time
from collections.abc import Callable

import torch

from bench.rounds.case import RATIOS, fedlps_case, vgg_network
from fedlps.engine.cuda.executor import CudaExecutor

STEPS, BATCH = 50, 20
MEMORY = 130 * 10**9  # bytes
ROUNDS = 2  # the first captures the graph


def main(clients: int = 1000) -> None:
    """A line per round."""
    ratios = [RATIOS[client % len(RATIOS)] for client in range(clients)]
    case = fedlps_case(ratios, vgg_network(), samples=BATCH, epochs=STEPS, batch=BATCH)
    executor = CudaExecutor(case.program, case.store, precision="tf32", batch=BATCH, memory=MEMORY)
    run, parts = executor.graphs.run, list[float]()

    def timed(step: Callable[[], None], steps: int, key: object) -> None:
        torch.cuda.synchronize()
        began = time.perf_counter()
        run(step, steps, key)
        torch.cuda.synchronize()
        parts.append(time.perf_counter() - began)

    executor.graphs.run = timed
    for number in range(ROUNDS):
        parts.clear()
        began = time.perf_counter()
        executor.train(case.parameters, case.plan, case.cohort)
        took, most = time.perf_counter() - began, torch.cuda.max_memory_allocated()
        told = {"clients": clients, "round": number, "seconds": took, "seconds of steps": sum(parts)}
        print(json.dumps({**told, "parts": len(parts), "buffers": executor.buffers.bytes, "most bytes": most}))
        print(f"{clients} clients: {took:.2f} s a round, {len(parts)} part(s), {most / 1e9:.0f} GB", flush=True)
    if len(parts) != 1:
        raise SystemExit(f"thousand: got {len(parts)} parts, expected one undivided cohort")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
