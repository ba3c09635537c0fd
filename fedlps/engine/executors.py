"""Which executor trains: the fastest that runs the program here, and why not a faster one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from fedlps.engine import cpu
from fedlps.engine.cuda import network, presence
from fedlps.engine.cuda.executor import CudaExecutor
from fedlps.engine.cuda.fallback import WithFallback
from fedlps.engine.reference import ReferenceExecutor
from fedlps.engine.result import Executor, Samples
from fedlps.errors import InputError
from fedlps.program import Program
from fedlps_kernels import native


@dataclass(frozen=True)
class Request:
    """What the configuration asks of an executor.

    threads: of the CPU engine; None: every core this process may use. memory: bytes that a cohort may take on a GPU;
    None: nearly all that is free. batch: the largest local batch.
    """

    executor: str = "auto"
    device: str = "auto"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    evaluation_batch: int = 200
    threads: int | None = None
    memory: int | None = None
    batch: int = 1


def check(request: Request) -> None:
    """Raise InputError where no executor of this build can do what is asked. Needs no model and no data."""
    try:
        missing, no_cuda = native.why_not(), presence.why_not()
    except ValueError as error:  # a wish of the environment that cannot be met
        raise InputError(str(error)) from None
    on_cpu = request.executor in ("cpu", "reference")
    if request.device == "cuda" and no_cuda:
        raise InputError(f"device: got cuda, but {no_cuda}; allowed here: auto, cpu")
    if request.device == "cuda" and on_cpu:
        raise InputError(f"device: got cuda, but executor={request.executor} runs on a CPU; allowed with it: auto, cpu")
    if request.executor == "cuda" and no_cuda:
        raise InputError(f"executor: got cuda, but {no_cuda}; allowed here: auto, cpu, reference")
    if request.executor == "cuda" and request.device == "cpu":
        raise InputError("executor: got cuda, but device=cpu; allowed with it: auto, cpu, reference")
    if request.executor == "cpu" and missing:
        raise InputError(f"executor: got cpu, but {missing}; allowed here: auto, reference")
    if request.precision != "fp32" and (no_cuda or on_cpu or request.device == "cpu"):
        raise InputError(f"precision: got {request.precision}, but on a CPU everything is computed in fp32")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose(
    request: Request,
    program: Program,
    module: nn.Module,
    samples: Samples,
    say: Callable[[str], None] = lambda line: print(f"fedlps: {line}", file=sys.stderr),
) -> tuple[Executor, str]:
    """The executor for a program, and one line that says which and why. say: told what turns out only in training."""
    check(request)
    if request.executor not in ("cpu", "reference") and request.device != "cpu" and not presence.why_not():
        obstacle = network.why_not(program)
        if not obstacle:
            return _on_gpu(request, program, module, samples, say)
        if request.executor == "cuda":
            raise InputError(f"executor: got cuda, but {obstacle}; allowed here: auto, cpu, reference")
        if request.device == "cuda":
            raise InputError(f"device: got cuda, but {obstacle}; allowed here: auto, cpu")
        if request.precision != "fp32":
            raise InputError(f"precision: got {request.precision}, but {obstacle}; allowed here: fp32")
        executor, why = _on_cpu(request, program, module, samples)
        return executor, f"{why}; not on the GPU: {obstacle}"
    return _on_cpu(request, program, module, samples)


def _on_gpu(
    request: Request, program: Program, module: nn.Module, samples: Samples, say: Callable[[str], None]
) -> tuple[Executor, str]:
    cuda = CudaExecutor(
        program,
        samples,
        precision=request.precision,
        batch=request.batch,
        evaluation_batch=request.evaluation_batch,
        memory=request.memory,
    )
    other = WithFallback(cuda, lambda: _on_cpu(request, program, module, samples)[0], say)
    return other, f"cuda executor ({torch.cuda.get_device_name()}, {request.precision})"


def _on_cpu(request: Request, program: Program, module: nn.Module, samples: Samples) -> tuple[Executor, str]:
    obstacle = cpu.why_not(program)
    if request.executor == "cpu" and obstacle:
        raise InputError(f"executor: got cpu, but {obstacle}; allowed here: auto, reference")
    if request.executor == "reference" or obstacle:
        why = "asked for" if request.executor == "reference" else obstacle
        executor: Executor = ReferenceExecutor(program, module, samples, evaluation_batch=request.evaluation_batch)
        return executor, f"reference executor (plain torch, one thread): {why}"
    threads = request.threads or cores()
    said = f"{threads} thread{'s' if threads > 1 else ''}, {native.isa()}"
    if threads > cores():
        said += f"; this process may use {cores()} cores only"
    chosen = cpu.CpuExecutor(program, samples, threads=threads, evaluation_batch=request.evaluation_batch)
    return chosen, f"cpu executor (native, {said})"
