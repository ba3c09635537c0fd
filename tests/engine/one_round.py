"""A round of all kinds of jobs in float32; `python -m tests.engine.one_round FILE.npz` stores what it leaves."""

import sys
from dataclasses import replace

import numpy
import torch

from fedlps.engine.plan import Job, Pass, Plan, Pull, Segment
from fedlps.engine.result import LocalResult
from tests.engine.changes import prune
from tests.engine.drawn_jobs import nearly_tied
from tests.engine.drawn_terms import PROBES, Setting, plain


def round_plan(setting: Setting) -> Plan:
    """Twelve jobs on three clients, from one step to seven, of one unit to all."""
    rng = numpy.random.default_rng(2)
    segments = (
        (Segment(0.1),),
        (Segment(0.1, 0.5, 0.01, 0.3, passes=(Pass(weight=0.0), Pass(batch=1, at=((0, -0.1),)))),),
        (Segment(0.1, steps=1, after=prune), Segment(0.05, 0.5)),
        (Segment(0.2),),
    )
    jobs = []
    for number, ratio in enumerate((1.0, 0.6, 0.3, 0.01) * 3):
        hold = setting.units(ratio, number)
        if number % 4 == 3 or number == 1:
            hold = replace(hold, units=nearly_tied(setting.program, rng, setting.start.dtype))
        pulls = (Pull(0.1, setting.other(1)),) if number % 2 else ()
        start = setting.other(number) if number % 3 == 1 else None
        jobs.append(Job(number % 3, hold, segments[number % 4], start=start, pulls=pulls, penalty=0.01 * (number % 2)))
    return Plan(tuple(jobs), PROBES)


def one_round() -> LocalResult:
    """The round, as the engine trains it here."""
    setting = Setting.of(plain, torch.float32)
    return setting.engine.train(setting.start, round_plan(setting), setting.cohort)


def main(path: str) -> None:
    """Store what the round leaves."""
    result = one_round()
    numpy.savez(
        path,
        parameters=torch.stack(result.probes["parameters"]).numpy(),
        redundancy=result.redundancy.numpy(),
        losses=result.losses,
        kept=result.submodels.kept.numpy(),
    )


if __name__ == "__main__":
    main(sys.argv[1])
