"""The executor that the benchmarks are about: the only place that names it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch

from bench.rounds.case import Case
from fedlps.engine.cohort import Cohort
from fedlps.engine.cpu import CpuExecutor
from fedlps.engine.plan import Plan
from fedlps.engine.reference import ReferenceExecutor
from fedlps.engine.result import Executor, LocalResult
from fedlps_kernels import native


def engine(case: Case, threads: int = 1) -> Executor:
    """The CPU engine on a case."""
    return CpuExecutor(case.program, case.store, dtype=case.parameters.dtype, threads=threads)


def definition(case: Case) -> ReferenceExecutor:
    """The executor that defines what every loop has to compute."""
    return ReferenceExecutor(case.program, case.module, case.store, dtype=case.parameters.dtype)


@contextmanager
def instructions(name: str) -> Iterator[None]:
    """The native kernels with an instruction set of `fedlps_kernels._native.available_isas()` meanwhile."""
    kernels = native.module()
    assert kernels is not None, native.why_not()
    before = kernels.isa()
    kernels.use_isa(name)
    try:
        yield
    finally:
        kernels.use_isa(before)


@contextmanager
def training_seconds() -> Iterator[list[float]]:
    """How long each of the CPU engine's trainings took meanwhile."""
    spent: list[float] = []
    train = CpuExecutor.train

    def timed(self: CpuExecutor, parameters: torch.Tensor, plan: Plan, cohort: Cohort) -> LocalResult:
        began = time.perf_counter()
        result = train(self, parameters, plan, cohort)
        spent.append(time.perf_counter() - began)
        return result

    with patch.object(CpuExecutor, "train", timed):
        yield spent


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """torch's own threads within one call."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
