"""Which executor trains: the fastest that runs the program here, and why not a faster one."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import nn

from fedlps.engine import cpu
from fedlps.engine.reference import ReferenceExecutor
from fedlps.engine.result import Executor, Samples
from fedlps.errors import InputError
from fedlps.program import Program
from fedlps_kernels import native


@dataclass(frozen=True)
class Request:
    """What the configuration asks of an executor. threads: of the CPU engine; None: every core this process may use."""

    executor: str = "auto"
    device: str = "auto"
    precision: str = "fp32"
    evaluation_batch: int = 200
    threads: int | None = None


def check(request: Request) -> None:
    """Raise InputError where no executor of this build can do what is asked. Needs no model and no data."""
    try:
        missing = native.why_not()
    except ValueError as error:  # a wish of the environment that cannot be met
        raise InputError(str(error)) from None
    if request.device == "cuda":
        raise InputError(f"device: got cuda, but {no_cuda()}; allowed here: auto, cpu")
    if request.executor == "cuda":
        raise InputError("executor: got cuda, not part of this version; allowed: auto, cpu, reference")
    if request.executor == "cpu" and missing:
        raise InputError(f"executor: got cpu, but {missing}; allowed here: auto, reference")
    if request.precision != "fp32":
        raise InputError(f"precision: got {request.precision}, but on a CPU everything is computed in fp32")


def no_cuda() -> str:
    """Why nothing trains on a GPU here."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device or driver"
    return "no executor of this version runs on a GPU"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose(request: Request, program: Program, module: nn.Module, samples: Samples) -> tuple[Executor, str]:
    """The executor for a program, and one line that says which and why."""
    check(request)
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
