"""`python -m bench.gpu.slowest`: where a step of 100 VGG11 clients spends its time, and ncu on three kernels.

With a precision as argument: just those steps, for ncu to watch. Clocks are left alone.
"""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from typing import cast

import torch

from bench.rounds.case import RATIOS, fedlps_case, vgg_network
from fedlps.engine.cuda.executor import CudaExecutor
from fedlps.engine.cuda.launches import Precision

CLIENTS, BATCH, STEPS = 100, 20, 3
PRECISION: Precision = "tf32"
WATCHED = 3


def steps(precision: Precision) -> None:
    """A round of so many, the first of which compiles."""
    ratios = [RATIOS[client % len(RATIOS)] for client in range(CLIENTS)]
    case = fedlps_case(ratios, vgg_network(), samples=BATCH, epochs=STEPS, batch=BATCH)
    executor = CudaExecutor(case.program, case.store, precision=precision, batch=BATCH)
    executor.train(case.parameters, case.plan, case.cohort)
    torch.cuda.synchronize()


def spent() -> Counter[str]:
    """Microseconds on the device by kernel, all steps together."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        steps(PRECISION)
    return Counter({event.key: event.self_device_time_total for event in profile.key_averages()})


def function(name: str) -> str:
    """A kernel's name without return type, namespaces, template arguments and parameters, as ncu has it."""
    plain = re.split(r"[<(]", name.replace("(anonymous namespace)::", ""))[0]
    return plain.split("::")[-1].split()[-1]


def main() -> None:
    """A line with the times, then ncu's own pages."""
    slowest = [(name, time) for name, time in spent().most_common(20) if not name.startswith(("Memcpy", "Memset"))]
    print(json.dumps({"kernels us": dict(slowest), "clients": CLIENTS, "steps": STEPS}), flush=True)
    ncu = shutil.which("ncu")
    if ncu is None:
        raise SystemExit("ncu: not found on PATH")
    names = [function(name) for name, _ in slowest[:WATCHED]]
    command = [ncu, "--clock-control", "none", "--set", "basic", "--kernel-name", f"regex:^({'|'.join(names)})$"]
    command += ["--launch-count", str(4 * WATCHED), sys.executable, "-m", "bench.gpu.slowest", PRECISION]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    steps(cast(Precision, sys.argv[1])) if sys.argv[1:] else main()
