"""Which terms of a plan the launches carry; a plan with others is trained elsewhere, whole."""

from __future__ import annotations

import torch

from fedlps.engine.plan import Hold, Job, Learned, Pass, Plan, Segment

MOST_PULLS = 4  # csrc/cuda/views.h
PROBES = frozenset({"kept", "losses", "parameters", "mask"})


def why_not(plan: Plan) -> str:
    """The first term that is not carried, in words; empty if all are."""
    others = sorted(plan.probes - PROBES)
    if others:
        return f"the probe {others[0]}"
    return next((reason for job in plan.jobs if (reason := _job(job))), "")


def segment_of(job: Job) -> Segment:
    """The only segment of a job that is carried; one without steps where it has none."""
    return job.segments[0] if job.segments else Segment(0.0, steps=0)


def _job(job: Job) -> str:
    passes = ((one, Pass) for segment in job.segments for one in segment.passes)
    for term, known in ((job, Job), (job.hold, Hold), *((segment, Segment) for segment in job.segments), *passes):
        if type(term) is not known:
            return f"the term {type(term).__name__}"
    if not isinstance(job.hold.units, torch.Tensor | Learned):
        return f"the units {type(job.hold.units).__name__}"
    if job.hold.mask is not None:
        return "a mask of weights"
    if job.hold.depth not in (None, 1):
        return f"a depth of {job.hold.depth}"
    if job.penalty:
        return "a group penalty"
    if len(job.pulls) > MOST_PULLS:
        return f"{len(job.pulls)} pulls"
    if len(job.segments) > 1:
        return f"{len(job.segments)} segments"
    return _segment(segment_of(job)) or _passes(segment_of(job).passes, isinstance(job.hold.units, Learned))


def _passes(passes: tuple[Pass, ...], learned: bool) -> str:
    if any(one.batch for one in passes):
        return "a pass on another batch"
    if any(one.at for one in passes):
        return "a pass at another point"
    if not passes or None in (passes[0].widths or ()):
        return "a step without its first pass"
    return "learned units in other passes than a plain one" if learned and passes != (Pass(),) else ""


def _segment(segment: Segment) -> str:
    if segment.trains is not None:
        return "entries that stand still"
    if segment.after is not None:
        return "a change of weights at the end"
    return ""
