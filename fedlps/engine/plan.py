"""What executors have to know of a round: a closed set of terms, plain data.

A plan is a list of jobs; a job is one training of one client of the cohort, in segments of steps, each step of one or
more passes. What a method computes is said with these terms or not at all; `docs/plan.md` shows which method uses
which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

Reduction = Literal["mean", "sum"]
Probe = Literal["kept", "losses", "parameters", "mask", "gradients", "squared_losses"]
"""What to report per job beside the result.

kept: per step the units, (U,) int32. losses: per step the mean task loss. parameters: the full-width w_E, (P,). mask:
the weight mask after the last segment, (P,) bool. gradients: the sum over all steps of the task gradient of all
entries, held or not, (P,). squared_losses: per step the sum over its samples of the squared task loss.
"""

Change = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], tuple[torch.Tensor, torch.Tensor]]
"""Between segments: (weights (P,), mask (P,) bool, gradient (P,) or None) -> weights and mask.

A job's changes are called in their order, in this process; calling one again gives the same.
"""


@dataclass(frozen=True)
class Learned:
    """Units learned while training: per step the counts smallest redundancies are kept (specification, section 3-4)."""

    redundancy: torch.Tensor  # (U,), d = 1 - Q
    strength: float  # lambda
    kappa: float  # weight of the straight-through task gradient
    reduction: Reduction


@dataclass(frozen=True)
class Hold:
    """What a job holds of the model: so many units per group, fixed or learned, and of those the entries of a mask."""

    counts: tuple[int, ...]
    units: torch.Tensor | Learned  # fixed: (U,) int32 as select_units returns them
    mask: torch.Tensor | None = None  # (P,) bool; an entry outside keeps its value from the start vector. None: all
    depth: int | None = None  # how many exits are run and trained, from the first. None: all there are


@dataclass(frozen=True)
class Pull:
    """A gradient term coefficient * (w - reference) on the kept entries (L_pr; a proximal term)."""

    coefficient: float
    reference: torch.Tensor  # (P,)


@dataclass(frozen=True)
class Pass:
    """One forward and backward of a step; the step's gradient is the weighted sum over its passes.

    batch: which batch of the epoch, counted from this step's, wrapping at the epoch's end. at: the pass is taken at
    w + sum of coefficient * gradient of an earlier pass. widths: per step of the segment, counts of leading units
    (of those that the job holds, which are then fixed), or None where the step has no such pass. teacher: the targets
    are the detached softmax outputs of an earlier pass, on the same batch, instead of the labels. Entries that no pass
    of a step touches are left as they are.
    """

    batch: int = 0
    at: tuple[tuple[int, float], ...] = ()
    weight: float = 1.0
    widths: tuple[tuple[int, ...] | None, ...] | None = None
    teacher: int | None = None


@dataclass(frozen=True)
class Segment:
    """Consecutive steps of a job under one optimiser.

    trains: (P,) bool, the entries that train (None: all that are held). after: a change of weights and mask after the
    last step; with after_gradient it is given the task gradient of all entries on the segment's first batch.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip: float = 0.0  # largest norm of the gradient over the kept entries; 0: none
    steps: int | None = None  # None: the rest of the client's batches
    passes: tuple[Pass, ...] = (Pass(),)
    trains: torch.Tensor | None = None
    carry_velocity: bool = False  # else it starts at 0
    after: Change | None = None
    after_gradient: bool = False


@dataclass(frozen=True)
class Job:
    """One training of one client.

    scale: per group, what the outputs of its layers are multiplied by, before a norm, while training (HeteroFL's
    scaler). penalty: weight of the sum over thinned layers' units of the norm of the unit's kept entries, bias included
    (Hermes's group lasso). mutual: weight of the divergence between exits (DepthFL).
    """

    client: int  # position in the cohort
    hold: Hold
    segments: tuple[Segment, ...]
    start: torch.Tensor | None = None  # (P,); None: the global parameters
    pulls: tuple[Pull, ...] = ()
    scale: tuple[float, ...] | None = None
    penalty: float = 0.0
    mutual: float = 0.0
    destination: Literal["upload", "personal"] = "upload"


@dataclass(frozen=True)
class Plan:
    """A round's jobs, and what to report of them beside the results."""

    jobs: tuple[Job, ...]
    probes: frozenset[Probe] = frozenset()
