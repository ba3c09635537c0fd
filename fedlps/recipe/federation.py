"""What the parts of a method may ask: the run's fixed surroundings, and the facts of the round at hand."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy
import torch
from numpy.typing import NDArray

from fedlps.cost import LocalCost, Rates, Work
from fedlps.data import Split
from fedlps.engine.cohort import Indices
from fedlps.engine.plan import Plan
from fedlps.engine.result import Executor, LocalResult
from fedlps.program import Program
from fedlps.run.config import Config
from fedlps_kernels.layout import Layout

Floats = NDArray[numpy.float64]


class Store(Protocol):
    """Where the state of clients and server is kept between rounds (`fedlps.run.store.RunStore`)."""

    def get_client(self, client: int, part: str) -> dict[str, numpy.ndarray] | None:
        """The arrays of one part of a client's state, or None."""
        ...

    def put_client(self, client: int, part: str, arrays: Mapping[str, numpy.ndarray]) -> None:
        """Keep the arrays of one part of a client's state."""
        ...

    def delete_client(self, client: int, part: str) -> None:
        """Forget one part of a client's state."""
        ...

    def get_tensor(self, name: str) -> numpy.ndarray | None:
        """A global array, or None."""
        ...

    def put_tensor(self, name: str, array: numpy.ndarray) -> None:
        """Keep a global array."""
        ...


class EvaluationSamples:
    """The test samples of all clients; every distinct image is known once, and nothing is kept per client but numbers.

    distinct: indices of the images that any client tests on, ascending.
    """

    def __init__(self, split: Split, clients: int) -> None:
        flat = array("i")
        self._edges = numpy.zeros(clients + 1, dtype=numpy.int64)
        for client in range(clients):
            flat.frombytes(split.client(client).test.astype(numpy.intc).tobytes())
            self._edges[client + 1] = len(flat)
        images = numpy.frombuffer(flat, dtype=numpy.intc)
        used = numpy.zeros(int(images.max()) + 1, dtype=numpy.bool_)
        used[images] = True
        self.distinct: Indices = numpy.flatnonzero(used)
        self._positions = (numpy.cumsum(used, dtype=numpy.intc) - 1)[images]

    def means(self, hits: NDArray[numpy.bool_]) -> Floats:
        """(K,) each client's accuracy, from the hits on the distinct images."""
        sums = numpy.add.reduceat(hits[self._positions].astype(numpy.int64), self._edges[:-1])
        return sums / numpy.diff(self._edges)


@dataclass(frozen=True)
class Federation:
    """The clients, their data and the model: the same for every round of a run."""

    config: Config
    program: Program
    split: Split
    executor: Executor
    store: Store
    dtype: torch.dtype

    @cached_property
    def layout(self) -> Layout:
        """The program's layout."""
        return self.program.layout()

    @cached_property
    def rates(self) -> Rates:
        """What turns operations and bytes into seconds."""
        cost = self.config.cost
        return Rates(cost.flops_per_second, cost.bytes_per_second, cost.alpha)

    @cached_property
    def all_counts(self) -> tuple[int, ...]:
        """Counts that keep every unit."""
        return tuple(group.units for group in self.program.groups)

    @cached_property
    def all_units(self) -> torch.Tensor:
        """(U,) int32, every unit of every group, as `select_units` returns them."""
        units = [torch.arange(count, dtype=torch.int32) for count in self.all_counts]
        return torch.cat([torch.empty(0, dtype=torch.int32), *units])

    @cached_property
    def test_samples(self) -> EvaluationSamples:
        """All clients' test samples, gathered when first asked for."""
        return EvaluationSamples(self.split, self.config.clients)

    def work(self, samples: int, pattern_sent: bool) -> Work:
        """The local round of a client with so many training samples."""
        return Work(samples, self.config.batch, self.config.epochs, pattern_sent)


@dataclass(frozen=True)
class Round:
    """One round before training. number counts from 0; arrays have one row per selected client, in cohort order."""

    number: int
    lr: float
    clients: Indices
    training: tuple[Indices, ...]  # training-sample indices per client
    capabilities: Floats
    ratios: Floats
    global_parameters: torch.Tensor  # (P,), w^r

    def counts(self, federation: Federation) -> list[tuple[int, ...]]:
        """Kept units per group, per client."""
        return [federation.program.counts(float(ratio)) for ratio in self.ratios]


@dataclass(frozen=True)
class Outcome:
    """One round after training: what came of each client. A client *counts* if it neither diverged nor was dropped."""

    round: Round
    result: LocalResult  # of the jobs that upload, one per client
    costs: tuple[LocalCost, ...]
    dropped: NDArray[numpy.bool_]
    plan: Plan = field(default_factory=lambda: Plan(()))
    all_jobs: LocalResult | None = None  # of every job of the plan

    def personal(self, position: int) -> tuple[LocalResult, int]:
        """Where the result of a client's personal job stands: all jobs and its row. Raises ValueError without one."""
        for row, job in enumerate(self.plan.jobs):
            if self.all_jobs is not None and job.client == position and job.destination == "personal":
                return self.all_jobs, row
        raise ValueError(f"position {position}: the plan has no personal job for this client")

    @property
    def counted(self) -> NDArray[numpy.bool_]:
        """(C,) clients whose upload arrives and whose state is kept."""
        kept: NDArray[numpy.bool_] = ~self.result.diverged & ~self.dropped
        return kept

    @property
    def accuracies(self) -> Floats:
        """(C,) train accuracy a_k^r, hits over samples of all steps; 0 where the client diverged."""
        shares = self.result.hits / numpy.maximum(self.result.seen, 1)
        return numpy.where(self.result.diverged, 0.0, shares)
