"""Triton is wanted only where its kernels serve."""

import subprocess
import sys

import pytest
import torch

from fedlps_kernels import launching
from fedlps_kernels.tiles import tiles
from fedlps_kernels.tuning import Block

WITHOUT = """
import sys
sys.modules["triton"] = None
import torch
from fedlps_kernels import grouped_linear, tiles, launching, unit_norm
one = torch.ones(1, dtype=torch.int32)
print(grouped_linear(torch.ones(1, 1, 2), torch.ones(1, 1, 2), None, one, 2 * one, one).item())
"""


def test_works_without_triton() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2.0"


def test_serves_float32_on_a_gpu_or_in_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "available", lambda: True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not launching.serves(torch.zeros(1))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert launching.serves(torch.zeros(1))
    assert not launching.serves(torch.zeros(1, dtype=torch.float64))


def test_grid_is_no_larger_than_the_list() -> None:
    one = torch.ones(1, dtype=torch.int64)
    two, none = tiles(2 * one, one, one, Block(16, 16, 16, 4, 1)), tiles(0 * one, one, one, Block(16, 16, 16, 4, 1))
    assert launching.programs(two, 7) == (2,)
    assert launching.programs(two, 1) == launching.programs(none, 7) == (1,)


def test_refuses_what_a_precision_does_not_hold() -> None:
    with pytest.raises(ValueError, match=r"precision: got 'half', expected fp32 or tf32 or bf16"):
        launching.check("half")
    with pytest.raises(TypeError, match=r"inputs: got dtype torch.float32, expected torch.bfloat16 for precision bf16"):
        launching.check("bf16", inputs=torch.zeros(1))
    with pytest.raises(ValueError, match=r"inputs: got strides \(0,\), expected a contiguous tensor"):
        launching.check("fp32", inputs=torch.zeros(1).expand(2))
    with pytest.raises(ValueError, match=r"inputs: got address 0x[0-9a-f]+4, expected a multiple of 16 bytes"):
        launching.check("fp32", inputs=torch.zeros(2)[1:])
