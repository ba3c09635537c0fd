"""What executors return, and the submodels they evaluate: one form for every executor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy
import torch
from numpy.typing import NDArray

from fedlps.engine.cohort import Cohort, Indices
from fedlps.engine.plan import Plan
from fedlps.program import Program


@dataclass(frozen=True)
class Submodels:
    """M submodels of one program, gathered.

    kept: (M, U) int32, ascending units per group, -1 past the count. counts: (M, G) int32. parameters: (M, N) compact
    vectors, zero past each submodel's size.
    """

    kept: torch.Tensor
    counts: torch.Tensor
    parameters: torch.Tensor

    def __len__(self) -> int:
        return self.kept.shape[0]

    def __getitem__(self, rows: slice | list[int]) -> Submodels:
        return Submodels(self.kept[rows], self.counts[rows], self.parameters[rows])

    def rows(self, chosen: list[int]) -> Submodels:
        """These rows; a copy unless they are all, in order."""
        return self if chosen == list(range(len(self))) else self[chosen]

    def repeated(self, times: int) -> Submodels:
        """A single submodel so many times, without copies: to be run on as many clients' samples."""
        return Submodels(*(tensor.expand(times, -1) for tensor in (self.kept, self.counts, self.parameters)))

    @property
    def one(self) -> bool:
        """Whether all rows are a single submodel in memory."""
        return len(self) > 1 and all(tensor.stride(0) == 0 for tensor in (self.kept, self.counts, self.parameters))


def whole(program: Program, parameters: torch.Tensor) -> Submodels:
    """The full-width model as one submodel that keeps every unit. parameters: (P,)."""
    units = [torch.arange(group.units, dtype=torch.int32) for group in program.groups]
    counts = torch.tensor([[group.units for group in program.groups]], dtype=torch.int32).reshape(1, -1)
    kept = torch.cat([torch.empty(0, dtype=torch.int32), *units])[None]
    compact = parameters[program.layout().entries(kept[0], counts[0])]
    return Submodels(kept, counts, compact[None])


@dataclass(frozen=True)
class LocalResult:
    """The outcome of a plan, one row per job.

    submodels: units kept after the last step, and w_E gathered on them (of a diverged job: whatever was last).
    redundancy: (jobs, U), d_E; 0 where nothing was learned. losses: mean task loss over the steps. hits, seen:
    correct and all samples over the steps. diverged: loss, parameters or d became non-finite.
    """

    submodels: Submodels
    redundancy: torch.Tensor
    losses: NDArray[numpy.float64]
    hits: NDArray[numpy.int64]
    seen: NDArray[numpy.int64]
    diverged: NDArray[numpy.bool_]
    probes: dict[str, list[Any]] = field(default_factory=dict)

    def __getitem__(self, rows: list[int]) -> LocalResult:
        return LocalResult(
            self.submodels[rows],
            self.redundancy[rows],
            self.losses[rows],
            self.hits[rows],
            self.seen[rows],
            self.diverged[rows],
            {name: [values[row] for row in rows] for name, values in self.probes.items()},
        )


@dataclass(frozen=True)
class Evaluation:
    """Per model and sample, whether the arg max is the label (ties to the lower class); the summed loss per model."""

    hits: list[NDArray[numpy.bool_]]
    losses: NDArray[numpy.float64]

    def accuracies(self) -> NDArray[numpy.float64]:
        """(M,) share of hits."""
        return numpy.array([hits.mean() for hits in self.hits])


Part = Literal["train", "test"]


class Samples(Protocol):
    """Where executors read samples: normalized inputs and labels by index."""

    def batch(
        self, indices: Indices, part: Part = "train"
    ) -> tuple[NDArray[numpy.floating[Any]], NDArray[numpy.int64]]:
        """Inputs (n, *input_shape), in the executor's floating type, and labels (n,) of a part."""
        ...


class Executor(Protocol):
    """Trains cohorts and evaluates models. All executors give the answers of `reference`."""

    name: str

    def train(self, global_parameters: torch.Tensor, plan: Plan, cohort: Cohort) -> LocalResult:
        """Run a plan's jobs from the global parameters (P,)."""
        ...

    def evaluate(self, models: Submodels, samples: list[Indices], part: Part) -> Evaluation:
        """Run every model on its own samples."""
        ...
