"""A plan's jobs as tables on the device: start vectors, selections, optimisers, pulls and redundancies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.capacity import Setting
from fedlps.engine.cuda.launches import Learning, Pulls, Rates, Weights
from fedlps.engine.cuda.propagation import Memory
from fedlps.engine.cuda.terms import segment_of
from fedlps.engine.plan import Job, Learned
from fedlps_kernels.layout import Layout


@dataclass(frozen=True)
class State:
    """What a round changes and what it goes by. masters, velocity: (C, P). kept: (C, U). scale: (G, C)."""

    masters: torch.Tensor
    velocity: torch.Tensor | None
    kept: torch.Tensor
    counts: torch.Tensor
    rates: Rates
    pulls: Pulls | None
    scale: torch.Tensor | None
    learning: Learning | None


def counts_of(jobs: Sequence[Job], groups: int) -> torch.Tensor:
    """(C, G) int64."""
    return torch.tensor([job.hold.counts for job in jobs], dtype=torch.int64).reshape(len(jobs), groups)


def references_of(jobs: Sequence[Job]) -> list[torch.Tensor]:
    """The distinct vectors that jobs are pulled to; most often there is one."""
    return list({id(pull.reference): pull.reference for job in jobs for pull in job.pulls}.values())


def load(
    jobs: Sequence[Job],
    received: torch.Tensor,
    layout: Layout,
    setting: Setting,
    memory: Memory,
    weights: Weights,
) -> State:
    """The state before the first step. received: (P,), the global parameters, on any device."""
    clients, units, groups = len(jobs), layout.units, len(layout.groups) - 1
    buffers, dtype = memory.buffers, setting.dtype
    masters = memory.take("masters")[: clients * layout.parameters].view(clients, layout.parameters)
    masters.copy_(buffers.shaped("received", (layout.parameters,), dtype).copy_(received.detach()).expand_as(masters))
    for row, job in zip(masters, jobs, strict=True):
        if job.start is not None:
            row.copy_(job.start, non_blocking=True)
    velocity = memory.take("velocity")[: masters.numel()].view_as(masters) if setting.momentum else None
    segments = [segment_of(job) for job in jobs]
    numbers = [[getattr(one, field.name) for one in segments] for field in fields(Rates)]
    kappa = [job.hold.units.kappa if isinstance(job.hold.units, Learned) else 0.0 for job in jobs]
    lr, momentum, decay, clip, kappas, scale, coefficients, redundancy = buffers.put(
        "numbers",
        [
            *(torch.tensor(one, dtype=dtype) for one in (*numbers, kappa)),
            torch.tensor([job.scale or (1.0,) * groups for job in jobs], dtype=dtype).reshape(clients, groups).T,
            torch.tensor([_coefficients(job, layout) for job in jobs], dtype=dtype).reshape(clients, groups),
            torch.stack([_redundancy(job, layout, dtype) for job in jobs]),
        ],
    )
    kept = torch.stack([_fixed(job, units) for job in jobs])
    counts, kept = buffers.put("selections", [counts_of(jobs, groups).to(torch.int32), kept])
    learning = None
    if setting.learned:
        sums, dropped = (buffers.shaped(name, (clients, units), dtype).zero_() for name in ("sums", "dropped"))
        changed = buffers.shaped("changed", (clients, groups), torch.int32)
        gates = buffers.shaped("gates", (clients, units), dtype) if setting.gated else None
        learning = Learning(redundancy, coefficients, kappas, gates, sums, dropped, changed)
        weights.unit_abs_sum(masters, sums)
        weights.select_units(learning, counts, torch.ones_like(lr, dtype=torch.int32), kept)
        changed.fill_(1)
    pulls = _pulls(jobs, layout, setting, buffers) if setting.pulls else None
    rates = Rates(lr, momentum, decay, clip)
    return State(masters, velocity, kept, counts, rates, pulls, scale if setting.scaled else None, learning)


def _pulls(jobs: Sequence[Job], layout: Layout, setting: Setting, buffers: Buffers) -> Pulls:
    distinct = references_of(jobs)
    references = buffers.shaped("references", (setting.references, layout.parameters), setting.dtype)
    for place, reference in zip(references, distinct, strict=False):  # other parts of the cohort may have more
        place.copy_(reference, non_blocking=True)
    rows = {id(reference): row for row, reference in enumerate(distinct)}
    coefficients = torch.zeros((setting.pulls, len(jobs)), dtype=setting.dtype)
    towards = torch.zeros((setting.pulls, len(jobs)), dtype=torch.int32)
    for client, job in enumerate(jobs):
        for number, pull in enumerate(job.pulls):
            coefficients[number, client], towards[number, client] = pull.coefficient, rows[id(pull.reference)]
    (coefficients,), (towards,) = buffers.put("pulls", [coefficients]), buffers.put("pulled to", [towards])
    return Pulls(coefficients, towards, references)


def _coefficients(job: Job, layout: Layout) -> list[float]:
    """c of every group (specification, section 4, step 2); 0 where nothing is learned."""
    units = job.hold.units
    sizes = layout.groups.diff().tolist()
    if not isinstance(units, Learned):
        return [0.0] * len(sizes)
    return [2 * units.strength / (size if units.reduction == "mean" else 1) for size in sizes]


def _redundancy(job: Job, layout: Layout, dtype: torch.dtype) -> torch.Tensor:
    """(U,). Fixed units among learned ones: so that those, and always those, are the smallest."""
    units = job.hold.units
    if isinstance(units, Learned):
        return units.redundancy.detach().to("cpu", dtype)
    d = torch.ones(layout.units, dtype=dtype)
    first = layout.groups[:-1].repeat_interleave(layout.groups.diff())
    held = units.cpu() >= 0
    d[(first + units.cpu())[held]] = 0
    return d


def _fixed(job: Job, units: int) -> torch.Tensor:
    held = job.hold.units
    return torch.full((units,), -1, dtype=torch.int32) if isinstance(held, Learned) else held.to("cpu", torch.int32)
