"""`python -m bench.gpu.machine`: versions, the GPU, and its ceilings: a device copy of 4 GB, products of 8192 x 8192.

Needs torch alone: it runs before anything is built. Operands are random: zeros would run faster.
"""

import json
import platform
import shutil
import statistics
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import torch

COPIED = 4 * 2**30  # bytes
SIDE = 8192
REPEATS = 10
TOOLS = {"nvcc": "--version", "compute-sanitizer": "--version", "ncu": "--version", "cmake": "--version"}


def seconds(call: Callable[[], object]) -> float:
    """Median of calls, each between two events."""
    took = []
    for number in range(REPEATS + 3):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        call()
        events[1].record()
        torch.cuda.synchronize()
        if number >= 3:
            took.append(events[0].elapsed_time(events[1]) / 1e3)
    return statistics.median(took)


def copy_rate() -> float:
    """TB/s, read and written."""
    source = torch.randint(256, (COPIED,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPIED / seconds(lambda: target.copy_(source)) / 1e12


def product_rate(precision: str) -> float:
    """TFLOP/s of the library's product in bf16, tf32 or fp32."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(SIDE, SIDE, device="cuda", dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * SIDE**3 / seconds(lambda: torch.mm(left, right, out=out)) / 1e12


def versions() -> dict[str, str]:
    """Of Python, packages and tools; empty where one is missing."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "cuda of torch": str(torch.version.cuda)}
    for package in ("triton", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    for tool, option in TOOLS.items():
        path = shutil.which(tool)
        told = subprocess.run([path, option], capture_output=True, text=True).stdout.split("\n") if path else [""]
        found[tool] = next((line for line in reversed(told) if "ersion" in line or "release" in line), told[0]).strip()
    return found


def gpu() -> dict[str, object]:
    """The device as torch sees it."""
    told = torch.cuda.get_device_properties(0)
    return {
        "name": told.name,
        "capability": f"{told.major}.{told.minor}",
        "processors": told.multi_processor_count,
        "memory": told.total_memory,
        "L2": told.L2_cache_size,
        "shared per block": told.shared_memory_per_block_optin,
    }


def clocks() -> str:
    """Driver, clocks and temperature, read only."""
    asked = "driver_version,clocks.sm,clocks.max.sm,clocks.mem,temperature.gpu,power.draw"
    path = shutil.which("nvidia-smi")
    command = [str(path), f"--query-gpu={asked}", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() if path else ""


def main() -> None:
    """A line each, so that what there is remains if the time is up."""
    print(json.dumps({"versions": versions()}), flush=True)
    print(json.dumps({"gpu": gpu(), "clocks": clocks()}), flush=True)
    ceilings = {"copy TB/s": copy_rate(), **{f"{one} TFLOP/s": product_rate(one) for one in ("bf16", "tf32", "fp32")}}
    print(json.dumps({"ceilings": ceilings, "clocks": clocks()}), flush=True)
    print(", ".join(f"{name} {rate:.4g}" for name, rate in ceilings.items()))


if __name__ == "__main__":
    main()
