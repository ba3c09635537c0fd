"""The CUDA engine's control flow on the CPU, definitions in the kernels' place, beside the definition of a round."""

from dataclasses import replace

import torch
from torch import nn

from fedlps.engine.cuda.executor import CudaExecutor
from fedlps.engine.reference import ReferenceExecutor
from fedlps.program import Program
from fedlps.trace import derive
from tests.engine.cases import Arrays
from tests.engine.drawn_terms import Setting

PROBES = frozenset({"kept", "losses", "parameters", "mask"})
TOLERANCE = 1e-10  # in float64, of the largest entry


def both(
    module: nn.Module, shape: tuple[int, ...], data: Arrays, dtype: torch.dtype = torch.float64, **options
) -> tuple[Program, CudaExecutor, ReferenceExecutor]:
    """The module's program, the engine and the reference for it."""
    program = derive(module, shape)
    reference = ReferenceExecutor(program, module, data.to(dtype), dtype=dtype)
    return program, CudaExecutor(program, data.to(dtype), dtype=dtype, device="cpu", **options), reference


def beside(setting: Setting, **options) -> Setting:
    """The same model, samples and cohort with this engine in the other's place."""
    samples, dtype = setting.reference.samples, setting.start.dtype
    return replace(setting, engine=CudaExecutor(setting.program, samples, dtype=dtype, device="cpu", **options))
