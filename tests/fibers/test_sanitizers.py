"""Sanitizers over the fibers: no race, nothing beyond a tensor, and each of the barriers is missed when left out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.fibers import build
from tests.fibers.exercise import everything, several_turns

pytestmark = pytest.mark.slow
LIBRARIES = {"thread": "libtsan.so", "address": "libasan.so"}


def sections(module: Path, sanitizer: str, *barriers: str) -> dict[str, str]:
    """What the sanitizer says of each part of the exercise, in a process of its own; only our kernels are looked at."""
    names = LIBRARIES[sanitizer], "libstdc++.so.6"
    asked = [[build.COMPILER, f"-print-file-name={name}"] for name in names]
    found = [subprocess.run(command, capture_output=True, text=True).stdout.strip() for command in asked]
    fixed = shutil.which("setarch")
    if fixed is None or not all(Path(library).is_absolute() for library in found):
        pytest.skip(f"no {' or '.join(names)} or setarch here")
    environment = {
        **os.environ,
        "LD_PRELOAD": ":".join(found),
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:suppress_equal_stacks=0:suppress_equal_addresses=0",
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "OMP_NUM_THREADS": "1",
    }
    command = [fixed, "-R", sys.executable, "-m", "tests.fibers.exercise", str(module), *barriers]
    result = subprocess.run(command, cwd=build.ROOT, env=environment, capture_output=True, text=True)
    said = dict(part.partition("\n")[::2] for part in result.stderr.split("== ")[1:])
    assert list(said) == ["forward", "random", *barriers], result.stderr[:4000]
    return said


def test_no_entry_lies_beyond_its_tensor(built):
    for name, said in sections(built("address")["address"], "address").items():
        assert "ERROR: AddressSanitizer" not in said, f"{name}: {said[:4000]}"


def test_no_race_and_every_missing_barrier_is_found(fibers, built):
    for _ in everything(several_turns(), torch.float32):
        pass
    barriers = fibers.met_barriers().split()
    assert len(barriers) >= 4
    for name, said in sections(built("thread")["thread"], "thread", *barriers).items():
        if name in barriers:
            assert "WARNING: ThreadSanitizer: data race" in said, f"without {name}: nothing was found"
        else:
            assert said == "", f"{name}: {said[:4000]}"
