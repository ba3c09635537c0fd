"""What executors have to know of a round: a closed set of terms, plain data.

A plan is a list of jobs; a job is one training of one client of the cohort, in segments. What a method computes is said
with these terms or not at all; `docs/architecture.md` names the ones that later methods add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Reduction = Literal["mean", "sum"]
Probe = Literal["kept", "losses", "parameters"]  # per step the units and task loss; the full-width w_E


@dataclass(frozen=True)
class Learned:
    """Units learned while training: per step the counts smallest redundancies are kept (specification, section 3-4)."""

    redundancy: torch.Tensor  # (U,), d = 1 - Q
    strength: float  # lambda
    kappa: float  # weight of the straight-through task gradient
    reduction: Reduction


@dataclass(frozen=True)
class Hold:
    """What a job holds of the model: so many units per group, fixed or learned."""

    counts: tuple[int, ...]
    units: torch.Tensor | Learned  # fixed: (U,) int32 as select_units returns them


@dataclass(frozen=True)
class Pull:
    """A gradient term coefficient * (w - reference) on the kept entries (L_pr; a proximal term)."""

    coefficient: float
    reference: torch.Tensor  # (P,)


@dataclass(frozen=True)
class Segment:
    """Consecutive steps of a job under one optimiser. Velocity starts at 0."""

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip: float = 0.0  # largest norm of the gradient over the kept entries; 0: none
    steps: int | None = None  # None: the rest of the client's batches


@dataclass(frozen=True)
class Job:
    """One training of one client."""

    client: int  # position in the cohort
    hold: Hold
    segments: tuple[Segment, ...]
    start: torch.Tensor | None = None  # (P,); None: the global parameters
    pulls: tuple[Pull, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A round's jobs, and what to report of them beside the results."""

    jobs: tuple[Job, ...]
    probes: frozenset[Probe] = frozenset()
