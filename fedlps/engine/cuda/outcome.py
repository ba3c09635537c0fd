"""What a round leaves, read from the device when it is over, and put into the form of all executors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from fedlps.engine.cuda.round import Round
from fedlps.engine.plan import Job, Plan
from fedlps.engine.result import LocalResult, Submodels
from fedlps.program import Program


@dataclass(frozen=True)
class Outcome:
    """One part of a cohort, on the host. entries: per job its submodel. masters: (C, P) if a probe asks for them."""

    kept: torch.Tensor
    entries: Sequence[torch.Tensor]
    redundancy: torch.Tensor
    losses: list[NDArray[Any]]
    by_step: list[list[torch.Tensor]]
    hits: NDArray[numpy.int64]
    seen: NDArray[numpy.int64]
    diverged: NDArray[numpy.bool_]
    masters: torch.Tensor | None

    @classmethod
    def of(cls, done: Round, plan: Plan) -> Outcome:
        """Waits for the device."""
        clock, jobs = done.clock, range(len(done.jobs))
        masters = done.state.masters.to("cpu", copy=True) if "parameters" in plan.probes else None
        data, sizes = done.compact()
        entries = torch.split(data[: sum(sizes)].to("cpu", copy=True), sizes)
        losses, taken = clock.losses.cpu().numpy(), clock.taken.tolist()
        by_step: list[list[torch.Tensor]] = [[] for _ in jobs]
        if done.setting.history:
            history = clock.kept.cpu()
            by_step = [[history[step, job].clone() for step in range(taken[job])] for job in jobs]
        return cls(
            done.state.kept.to("cpu", copy=True),
            entries,
            done.redundancy().to("cpu", copy=True),
            [losses[: taken[job], job].copy() for job in jobs],
            by_step,
            clock.hits.to("cpu", copy=True).numpy(),
            clock.seen.to("cpu", copy=True).numpy(),
            clock.alive.cpu().numpy() == 0,
            masters,
        )


def join(
    parts: Sequence[Outcome], jobs: Sequence[Job], plan: Plan, program: Program, dtype: torch.dtype
) -> LocalResult:
    """The parts' jobs behind one another."""
    units = program.units
    entries = [own for part in parts for own in part.entries]
    compact = torch.zeros((len(jobs), max(map(len, entries), default=0)), dtype=dtype)
    for row, own in zip(compact, entries, strict=True):
        row[: len(own)] = own
    counts = torch.tensor([job.hold.counts for job in jobs], dtype=torch.int32)
    losses = [own for part in parts for own in part.losses]
    return LocalResult(
        submodels=Submodels(
            torch.cat([torch.zeros((0, units), dtype=torch.int32), *(part.kept for part in parts)]),
            counts.reshape(len(jobs), len(program.groups)),
            compact,
        ),
        redundancy=torch.cat([torch.zeros((0, units), dtype=dtype), *(part.redundancy for part in parts)]),
        losses=numpy.array([own.mean(dtype=numpy.float64) if len(own) else numpy.nan for own in losses]),
        hits=numpy.concatenate([numpy.zeros(0, dtype=numpy.int64), *(part.hits for part in parts)]),
        seen=numpy.concatenate([numpy.zeros(0, dtype=numpy.int64), *(part.seen for part in parts)]),
        diverged=numpy.concatenate([numpy.zeros(0, dtype=numpy.bool_), *(part.diverged for part in parts)]),
        probes=_probes(parts, plan, program),
    )


def _probes(parts: Sequence[Outcome], plan: Plan, program: Program) -> dict[str, list[Any]]:
    told: dict[str, list[Any]] = {
        "kept": [own for part in parts for own in part.by_step],
        "losses": [own.tolist() for part in parts for own in part.losses],
        "parameters": [row for part in parts if part.masters is not None for row in part.masters],
        "mask": [torch.ones(program.size, dtype=torch.bool) for _ in plan.jobs] if "mask" in plan.probes else [],
    }
    return {name: told[name] for name in plan.probes}
