"""`python -m bench.gpu.compile`: a round and an evaluation of VGG11 in every precision, each in a process of its own.

Triton compiles what they launch and keeps it for the stages behind: what is compiled once a machine is not their time.
"""

import json
import multiprocessing
import time

from bench.rounds.case import RATIOS, fedlps_case, vgg_network
from fedlps.engine.cuda.executor import CudaExecutor
from fedlps.engine.cuda.launches import Precision

PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
BATCH = 20


def compiled(precision: Precision) -> None:
    """Tells how long it took."""
    began = time.perf_counter()
    case = fedlps_case(RATIOS, vgg_network(), samples=2 * BATCH, epochs=1, batch=BATCH)
    executor = CudaExecutor(case.program, case.store, precision=precision, batch=BATCH)
    result = executor.train(case.parameters, case.plan, case.cohort)
    samples = [next(iter(case.cohort.batches(client))) for client in range(len(RATIOS))]
    executor.evaluate(result.submodels, samples, "test")
    print(json.dumps({"compiled": precision, "seconds": time.perf_counter() - began}), flush=True)


def main() -> None:
    """All at once. Fails where one does."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=compiled, args=(precision,)) for precision in PRECISIONS]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("compile: a process failed, see above")


if __name__ == "__main__":
    main()
