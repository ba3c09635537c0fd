"""An objective's jobs with further terms of the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fedlps.engine.plan import Hold, Plan, Probe
from fedlps.recipe.federation import Federation, Round
from fedlps.recipe.objective import Objective


def probing(objective: Objective, *probes: Probe) -> Objective:
    """The same jobs, of which more is reported."""

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        jobs = objective(federation, round_, holds)
        return replace(jobs, probes=jobs.probes | set(probes))

    return plan


def each(objective: Objective, **terms: Any) -> Objective:
    """The same jobs, every one with these fields of `fedlps.engine.plan.Job`."""

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        jobs = objective(federation, round_, holds)
        return replace(jobs, jobs=tuple(replace(job, **terms) for job in jobs.jobs))

    return plan
