"""What there is of CUDA here, and why it trains nothing, if it does not."""

from __future__ import annotations

import importlib.util
from importlib.metadata import PackageNotFoundError, version

import torch

from fedlps_kernels import native


def why_not() -> str:
    """Why the kernels do not run here, in one line; empty if they do."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    missing = native.why_no_cuda()
    if missing:
        return missing
    if not torch.cuda.is_available():
        return "torch finds no CUDA device or driver"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install fedlps[gpu])"
    return ""


def versions() -> str:
    """Driver, runtimes and triton, for people."""
    found = _found()
    driver = "none" if found is None or not found["driver"] else f"for CUDA {_spelled(found['driver'])}"
    if found is None and torch.cuda.is_available():
        driver = "there, but only the native module's CUDA part knows which"
    try:
        triton = version("triton")
    except PackageNotFoundError:
        triton = "not installed"
    kernels = "not built" if found is None else f"built with {_spelled(found['runtime'])}"
    return f"driver {driver}; runtime of torch {torch.version.cuda or 'none'}, kernels {kernels}; triton {triton}"


def hardware() -> str:
    """What decides the bits of a run on this GPU beside the kernels themselves."""
    return f"{torch.cuda.get_device_name()}, runtime {torch.version.cuda}, triton {version('triton')}"


def _found() -> dict[str, int] | None:
    module = native.module()
    found: dict[str, int] | None = None if module is None else module.cuda()
    return found


def _spelled(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
