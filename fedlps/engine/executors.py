"""Which executor trains: the fastest that runs the program here, and why not a faster one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fedlps.engine.reference import ReferenceExecutor
from fedlps.engine.result import Executor, Samples
from fedlps.errors import InputError
from fedlps.program import Program


@dataclass(frozen=True)
class Request:
    """What the configuration asks of an executor."""

    executor: str = "auto"
    device: str = "auto"
    precision: str = "fp32"
    evaluation_batch: int = 200


def check(request: Request) -> None:
    """Raise InputError where no executor of this build can do what is asked. Needs no model and no data."""
    if request.device == "cuda":
        raise InputError(f"device: got cuda, but {no_cuda()}; allowed here: auto, cpu")
    if request.executor not in ("auto", "reference"):
        raise InputError(f"executor: got {request.executor}, not part of this version; allowed: auto, reference")
    if request.precision != "fp32":
        raise InputError(f"precision: got {request.precision}, but the reference executor computes in fp32 only")


def no_cuda() -> str:
    """Why nothing trains on a GPU here."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device or driver"
    return "no executor of this version runs on a GPU"


def choose(request: Request, program: Program, module: nn.Module, samples: Samples) -> tuple[Executor, str]:
    """The executor for a program, and one line that says which and why."""
    check(request)
    executor = ReferenceExecutor(program, module, samples, evaluation_batch=request.evaluation_batch)
    if program.obstacle is None:
        return executor, "reference executor (plain torch, one thread): this version has no other"
    return executor, f"reference executor (plain torch, one thread): the model is no chain, {program.obstacle}"
