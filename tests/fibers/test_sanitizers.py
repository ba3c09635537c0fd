"""ThreadSanitizer over the fibers: no race in our kernels, and each of their barriers is missed when it is left out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fibers import build
from tests.fibers.conftest import ORDERS
from tests.fibers.exercise import everything
from tests.kernels.cases import small_case

LIBRARIES = {"thread": "libtsan.so", "address": "libasan.so"}


def run(modules: dict[str, Path], sanitizer: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The exercise in a process of its own; what is not ours is not instrumented and not looked at."""
    found = subprocess.run([build.COMPILER, f"-print-file-name={LIBRARIES[sanitizer]}"], capture_output=True, text=True)
    library = found.stdout.strip()
    fixed = shutil.which("setarch")
    if not Path(library).is_absolute() or fixed is None:
        pytest.skip(f"no {LIBRARIES[sanitizer]} or setarch here")
    environment = {
        **os.environ,
        "LD_PRELOAD": library,
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1",
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "OMP_NUM_THREADS": "1",
    }
    command = [fixed, "-R", sys.executable, "-m", "tests.fibers.exercise", str(modules[sanitizer]), *arguments]
    return subprocess.run(command, cwd=build.ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("order", ["forward", "random"])
@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_kernels_are_clean(modules, sanitizer, order):
    result = run(modules, sanitizer, order)
    assert "Sanitizer" not in result.stderr, result.stderr[:4000]
    assert result.returncode == 0, result.stderr[:4000]


def test_every_missing_barrier_is_found(fibers, modules):
    import torch

    for _ in everything(small_case(), torch.float32):
        pass
    barriers = fibers.met_barriers().split()
    assert len(barriers) >= 4
    for barrier in barriers:
        result = run(modules, "thread", ORDERS[0], barrier)
        assert "WARNING: ThreadSanitizer: data race" in result.stderr, f"{barrier}: {result.stderr[:2000]}"
