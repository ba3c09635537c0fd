"""What jobs have to share to be trained together: numbers that a launch takes for all clients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fedlps.engine.cuda.terms import segment_of
from fedlps.engine.plan import Job, Learned, Reduction


class Kind(NamedTuple):
    """Of a pass: its weight, the number of the pass that teaches it, and whether it has widths."""

    weight: float = 1.0
    teacher: int | None = None
    narrow: bool = False


PLAIN = (Kind(),)


@dataclass(frozen=True)
class Numbers:
    """Those of a job's optimiser, passes, pulls and learning, but for the learning rate, which lies on the device."""

    momentum: float
    weight_decay: float
    clip: float
    pulls: tuple[float, ...]
    learned: tuple[float, float, Reduction] | None  # strength, kappa, reduction
    passes: tuple[Kind, ...] = PLAIN

    @classmethod
    def of(cls, job: Job) -> Numbers:
        """A job's."""
        segment, units = segment_of(job), job.hold.units
        learned = (units.strength, units.kappa, units.reduction) if isinstance(units, Learned) else None
        pulls = tuple(pull.coefficient for pull in job.pulls)
        passes = tuple(Kind(one.weight, one.teacher, one.widths is not None) for one in segment.passes)
        return cls(segment.momentum, segment.weight_decay, segment.clip, pulls, learned, passes)

    @property
    def gated(self) -> bool:
        """Whether the task gradient of the gates is wanted."""
        return self.learned is not None and self.learned[1] != 0

    @property
    def teachers(self) -> list[int]:
        """The passes whose outputs others learn from."""
        return sorted({kind.teacher for kind in self.passes if kind.teacher is not None})


def alike(jobs: Sequence[Job]) -> list[list[int]]:
    """The places of jobs that share all numbers, in groups; of the usual plan there is one."""
    groups: dict[tuple[float, Numbers], list[int]] = {}
    for place, job in enumerate(jobs):
        groups.setdefault((segment_of(job).lr, Numbers.of(job)), []).append(place)
    return list(groups.values())
