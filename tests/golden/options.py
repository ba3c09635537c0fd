"""How the cases of one call are run."""

import importlib.util
from dataclasses import dataclass

import numpy
import torch

from fedlps_kernels import native

EXECUTORS = ("reference", "cpu", "cuda")
TOLERANCES = {"float64": 1e-9, "float32": 2e-4}  # of an array's largest magnitude
DOUBLE = TOLERANCES["float64"]  # of the kinds that are float64 under either dtype


class SkippedError(Exception):
    """Raised by a kind for a case that the specification lets this build skip; the message says why."""


@dataclass(frozen=True)
class Options:
    """executor: which one trains and computes. dtype: what the float64 inputs are cast to."""

    executor: str = "reference"
    dtype: str = "float64"

    @property
    def tolerance(self) -> float:
        """The largest allowed error, as a fraction of an array's largest magnitude."""
        return TOLERANCES[self.dtype]

    @property
    def device(self) -> str:
        """Where the ops run: without a GPU, definitions take its kernels' place."""
        return "cuda" if self.executor == "cuda" and torch.cuda.is_available() else "cpu"

    def cast(self, values: numpy.ndarray) -> torch.Tensor:
        """Float64 inputs in the dtype and on the device of this call."""
        return torch.from_numpy(values).to(self.device, getattr(torch, self.dtype))


def missing(executor: str) -> str | None:
    """None if this build has the executor and a device for it, else one line that says what is missing."""
    try:
        present = importlib.util.find_spec(f"fedlps.engine.{executor}") is not None
    except ModuleNotFoundError:
        present = False
    if not present:
        return f"--executor: got {executor}, which is not in this build"
    if executor == "cpu" and native.why_not():
        return f"--executor: got cpu, but {native.why_not()}"
    return None
