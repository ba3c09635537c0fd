"""A plan's jobs as tables on the device: start vectors, selections, optimisers, pulls and redundancies of all clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.capacity import Need, Setting
from fedlps.engine.cuda.launches import Learning, Pulls, Rates, Weights
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
    needs: dict[str, Need],
    buffers: Buffers,
    take: Callable[[str, Need], torch.Tensor],
    weights: Weights,
) -> State:
    """The state before the first step. received: (P,), the global parameters, on any device."""
    clients, units, groups = len(jobs), layout.units, len(layout.groups) - 1
    masters = take("masters", needs["masters"])[: clients * layout.parameters].view(clients, layout.parameters)
    masters.copy_(_moved(buffers, "received", received, setting.dtype).expand_as(masters))
    for row, job in zip(masters, jobs, strict=True):
        if job.start is not None:
            row.copy_(job.start, non_blocking=True)
    velocity = None
    if setting.momentum:
        velocity = take("velocity", needs["velocity"])[: masters.numel()].view_as(masters)
    segments = [segment_of(job) for job in jobs]
    width = setting.pulls
    coefficients = [[pull.coefficient for pull in job.pulls] + [0.0] * (width - len(job.pulls)) for job in jobs]
    numbers = [
        *([getattr(segment, name) for segment in segments] for name in ("lr", "momentum", "weight_decay", "clip")),
        list(zip(*coefficients, strict=True)),
        [job.scale or (1.0,) * groups for job in jobs],
        [_coefficients(job, layout) for job in jobs],
        [_learned(job).kappa if _learned(job) is not None else 0.0 for job in jobs],
    ]
    tables = [torch.tensor(one, dtype=torch.float64).to(setting.dtype) for one in numbers]
    tables[5] = tables[5].reshape(clients, groups).T.contiguous()
    redundancy = torch.stack([_redundancy(job, layout, setting.dtype) for job in jobs])
    *four, pulled, scale, coefficient, kappa, d = buffers.put("numbers", [*tables, redundancy])
    places = {id(reference): row for row, reference in enumerate(references_of(jobs))}
    rows = [[places[id(pull.reference)] for pull in job.pulls] + [0] * (width - len(job.pulls)) for job in jobs]
    row_table = torch.tensor(rows, dtype=torch.int32).reshape(clients, width).T.contiguous()
    fixed = torch.stack([_fixed(job, units) for job in jobs])
    counts, kept, row_table = buffers.put("selections", [counts_of(jobs, groups).to(torch.int32), fixed, row_table])
    pulls = None
    if width:
        references = buffers.shaped("references", (setting.references, layout.parameters), setting.dtype)
        for place, reference in zip(references, references_of(jobs), strict=False):
            place.copy_(reference, non_blocking=True)
        pulls = Pulls(pulled, row_table, references)
    learning = None
    if setting.learned:
        sums, dropped = (buffers.shaped(name, (clients, units), setting.dtype).zero_() for name in ("sums", "dropped"))
        changed = buffers.shaped("changed", (clients,), torch.int32).fill_(1)
        learning = Learning(d, coefficient.view(clients, groups), kappa, sums, dropped, changed)
        weights.unit_abs_sum(masters, sums)
        alive = torch.ones(clients, dtype=torch.int32, device=masters.device)
        weights.select_units(learning, counts, alive, kept)
        changed.fill_(1)
    factors = scale if setting.scaled else None
    return State(masters, velocity, kept, counts, Rates(*four), pulls, factors, learning)


def _moved(buffers: Buffers, name: str, vector: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    held = buffers.shaped(name, tuple(vector.shape), dtype)
    return held.copy_(vector.detach(), non_blocking=True)


def _learned(job: Job) -> Learned | None:
    return job.hold.units if isinstance(job.hold.units, Learned) else None


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
