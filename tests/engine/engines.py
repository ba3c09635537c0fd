"""The CPU engine beside the definition of what it computes."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from fedlps.engine.cpu import CpuExecutor
from fedlps.engine.reference import ReferenceExecutor
from fedlps.engine.result import Executor
from fedlps.program import Program
from fedlps.trace import derive
from fedlps_kernels import native
from tests.engine.cases import Arrays

needs_engine = pytest.mark.skipif(native.module() is None, reason=f"no native module here: {native.why_not()}")


def both(
    module: nn.Module, shape: tuple[int, ...], data: Arrays, dtype: torch.dtype = torch.float64
) -> tuple[Program, Executor, Executor]:
    """The module's program, the engine and the reference for it."""
    program = derive(module, shape)
    reference = ReferenceExecutor(program, module, data.to(dtype), dtype=dtype)
    return program, CpuExecutor(program, data.to(dtype), dtype=dtype), reference


def each_isa() -> Iterator[str]:
    """Every instruction set of this machine, in use until the next is asked for."""
    module = native.module()
    before = module.isa()
    try:
        for name in module.available_isas():
            module.use_isa(name)
            yield name
    finally:
        module.use_isa(before)
