"""A plan's jobs as tables on the device: start vectors, selections, optimisers, pulls and redundancies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fedlps.engine.cuda.capacity import Setting
from fedlps.engine.cuda.launches import Learning, Pull, Rates, Weights
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
    pulls: list[Pull]
    scale: torch.Tensor | None
    learning: Learning | None


def counts_of(jobs: Sequence[Job], groups: int) -> torch.Tensor:
    """(C, G) int64."""
    return torch.tensor([job.hold.counts for job in jobs], dtype=torch.int64).reshape(len(jobs), groups)


def shared_pulls(jobs: Sequence[Job]) -> tuple[bool, ...]:
    """Of each pull, whether all jobs have the same reference. The jobs have as many pulls."""
    columns = zip(*(job.pulls for job in jobs), strict=True)
    return tuple(len({id(pull.reference) for pull in column}) == 1 for column in columns)


def load(
    jobs: Sequence[Job], received: torch.Tensor, layout: Layout, setting: Setting, memory: Memory, weights: Weights
) -> State:
    """The state before the first step, of jobs that share their numbers. received: (P,), on any device."""
    clients, groups = len(jobs), len(layout.groups) - 1
    buffers, dtype, numbers = memory.buffers, setting.dtype, setting.numbers
    masters = memory.take("masters")[: clients * layout.parameters].view(clients, layout.parameters)
    masters.copy_(buffers.shaped("received", (layout.parameters,), dtype).copy_(received.detach()).expand_as(masters))
    for row, job in zip(masters, jobs, strict=True):
        if job.start is not None:
            row.copy_(job.start, non_blocking=True)
    velocity = memory.take("velocity")[: masters.numel()].view_as(masters) if numbers.momentum else None
    scales = torch.tensor([job.scale or (1.0,) * groups for job in jobs], dtype=dtype).reshape(clients, groups)
    lr, scale = buffers.put("numbers", [torch.tensor([segment_of(jobs[0]).lr], dtype=dtype), scales.T])
    held = torch.stack([_fixed(job, layout.units) for job in jobs])
    counts, kept = buffers.put("selections", [counts_of(jobs, groups).to(torch.int32), held])
    pulls = [
        Pull(coefficient, _references(jobs, number, shared, layout, memory))
        for number, (coefficient, shared) in enumerate(zip(numbers.pulls, setting.shared_pulls, strict=True))
    ]
    rates = Rates(lr, numbers.momentum, numbers.weight_decay, numbers.clip)
    learning = _learning(jobs, setting, memory, counts)
    if learning is not None:
        weights.unit_abs_sum(masters, learning.sums)
        weights.select_units(learning, counts, torch.ones(clients, dtype=torch.int32, device=kept.device), kept)
        learning.changed.fill_(1)
    return State(masters, velocity, kept, counts, rates, pulls, scale if setting.scaled else None, learning)


def _references(jobs: Sequence[Job], number: int, shared: bool, layout: Layout, memory: Memory) -> torch.Tensor:
    data = memory.take(f"references {number}")
    if shared:
        return data[: layout.parameters].copy_(jobs[0].pulls[number].reference, non_blocking=True)
    rows = data[: len(jobs) * layout.parameters].view(len(jobs), layout.parameters)
    for row, job in zip(rows, jobs, strict=True):
        row.copy_(job.pulls[number].reference, non_blocking=True)
    return rows


def _learning(jobs: Sequence[Job], setting: Setting, memory: Memory, counts: torch.Tensor) -> Learning | None:
    learned = [job.hold.units.redundancy.detach() for job in jobs if isinstance(job.hold.units, Learned)]
    if setting.numbers.learned is None:
        return None
    buffers, shape = memory.buffers, (len(jobs), len(learned[0]))
    (redundancy,) = buffers.put("redundancy", [torch.stack(learned).to("cpu", setting.dtype)])
    sums, dropped = (buffers.shaped(name, shape, setting.dtype).zero_() for name in ("sums", "dropped"))
    gates = buffers.shaped("gates", shape, setting.dtype) if setting.numbers.gated else None
    changed = buffers.shaped("changed", tuple(counts.shape), torch.int32)
    return Learning(redundancy, *setting.numbers.learned, gates, sums, dropped, changed)


def _fixed(job: Job, units: int) -> torch.Tensor:
    held = job.hold.units
    return torch.full((units,), -1, dtype=torch.int32) if isinstance(held, Learned) else held.to("cpu", torch.int32)
