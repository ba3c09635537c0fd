"""Small models, samples and executors for the tests of the engine."""

from dataclasses import dataclass

import numpy
import torch
from torch import nn

from fedlps.engine.cohort import Cohort, from_batches
from fedlps.engine.reference import ReferenceExecutor
from fedlps.program import Program
from fedlps.trace import derive


@dataclass(frozen=True)
class Arrays:
    """A sample store over two arrays; both parts are the same."""

    inputs: numpy.ndarray
    labels: numpy.ndarray

    def batch(self, indices, part="train"):
        return self.inputs[indices], self.labels[indices]

    def to(self, dtype: torch.dtype) -> "Arrays":
        """The same samples in a floating type."""
        return Arrays(torch.from_numpy(self.inputs).to(dtype).numpy(), self.labels)


def samples(shape: tuple[int, ...], classes: int, count: int, seed: int = 0) -> Arrays:
    """Random inputs, float64, and labels."""
    rng = numpy.random.default_rng(seed)
    return Arrays(rng.normal(size=(count, *shape)), rng.integers(classes, size=count))


def executor_of(
    module: nn.Module, shape: tuple[int, ...], data: Arrays, dtype: torch.dtype = torch.float64
) -> tuple[Program, ReferenceExecutor]:
    """The module's program and the reference executor for it."""
    program = derive(module, shape)
    return program, ReferenceExecutor(program, module, data, dtype=dtype)


def cohort_of(*clients: list[list[int]], seeds: list[int] | None = None) -> Cohort:
    """A cohort of batches given as plain lists, one list of batches per client."""
    batches = [[numpy.array(batch, dtype=numpy.int64) for batch in client] for client in clients]
    sizes = numpy.array([len({i for batch in client for i in batch}) for client in clients], dtype=numpy.int64)
    drawn = None if seeds is None else numpy.array(seeds, dtype=numpy.int64)
    return from_batches(numpy.arange(len(clients)), batches, sizes, seeds=drawn)


def first_units(program: Program, counts: tuple[int, ...]) -> torch.Tensor:
    """The first units of every group, as `select_units` returns them."""
    pieces = [torch.empty(0, dtype=torch.int32)]
    for group, count in zip(program.groups, counts, strict=True):
        piece = torch.full((group.units,), -1, dtype=torch.int32)
        piece[:count] = torch.arange(count, dtype=torch.int32)
        pieces.append(piece)
    return torch.cat(pieces)
