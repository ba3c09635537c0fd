"""Which passes an executor can run at all."""

from __future__ import annotations

from itertools import pairwise

import numpy

from fedlps.engine.plan import Job, Learned, Segment
from fedlps.program import Program


def check_passes(program: Program, job: Job, segment: Segment, steps: int) -> None:
    """Raise ValueError, one line, for passes that no executor can run on this job."""
    for number, one in enumerate(segment.passes):
        referred = [earlier for earlier, _ in one.at] + ([] if one.teacher is None else [one.teacher])
        for earlier in referred:
            if not 0 <= earlier < number:
                raise ValueError(f"pass {number}: refers to pass {earlier}, allowed: earlier ones")
        if one.teacher is not None and segment.passes[one.teacher].batch != one.batch:
            raise ValueError(f"pass {number}: its teacher, pass {one.teacher}, is of another batch")
        if one.widths is not None and len(one.widths) < steps:
            raise ValueError(f"pass {number}: has widths for {len(one.widths)} steps, expected {steps}")
        for step in range(steps):
            if one.widths is not None and one.widths[step] is None:
                continue
            for earlier in referred:
                widths = segment.passes[earlier].widths
                if widths is not None and widths[step] is None:
                    raise ValueError(f"pass {earlier}: is left out at this step, but a later pass refers to it")
    widest = [max(column) for column in zip(*_widths(segment, steps), strict=True)]
    if not widest:
        return
    if isinstance(job.hold.units, Learned):
        raise ValueError("widths: the units are learned, so there are no leading ones")
    edges = numpy.cumsum([0, *(group.units for group in program.groups)])
    for group, (first, last) in enumerate(pairwise(edges.tolist())):
        leading = job.hold.units[first : min(first + widest[group], last)].tolist()
        if widest[group] > job.hold.counts[group] or leading != list(range(len(leading))):
            raise ValueError(f"widths: got {widest[group]} leading units of group {group}, which the job does not hold")


def _widths(segment: Segment, steps: int) -> list[tuple[int, ...]]:
    return [counts for one in segment.passes for counts in (one.widths or ())[:steps] if counts is not None]
