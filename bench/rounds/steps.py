"""One local step of a whole cohort: the CUDA engine's, captured, beside library calls at the same precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import torch

from bench import floors
from bench.kernels.device import Alternative, Call, Ceilings, Comparison, branches, compare, measured_ceilings
from bench.kernels.operands import Parts, together
from bench.rounds.case import Case
from bench.rounds.stacked import Stacked, kept_entries
from fedlps.engine.cuda.executor import CudaExecutor
from fedlps.engine.cuda.jobs import counts_of
from fedlps.engine.cuda.launches import Precision
from fedlps.engine.cuda.round import Round

CHECKED = 10  # clients whose weights are compared behind the first step
# Of the change of a client's weights: a ReLU or a pooling window that decides otherwise moves it by hundredths.
TOLERANCES: dict[Precision, float] = {"fp32": 0.1, "tf32": 0.3, "bf16": 0.7}


def step(
    name: str, case: Case, device: torch.device | str, precision: Precision, *, tolerance: float | None = None
) -> Comparison:
    """The whole step of all clients of a case, whose batches are of one size."""
    limits: Ceilings = measured_ceilings(device, precision)
    suits = torch.contiguous_format if precision == "fp32" else torch.channels_last
    both = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}
    alternatives = [
        Alternative("ours", lambda: _ours(case, device, precision)),
        Alternative("client by client", lambda: _library(case, device, precision, "alone", suits, False), False),
        Alternative("graph, client by client", lambda: _library(case, device, precision, "alone", suits, True)),
    ]
    for kind, spelled in (("masked", "masked, whole widths"), ("equal", "equal ratios stacked")):
        for title, layout in both.items():
            make = _later(case, device, precision, kind, layout)
            alternatives.append(Alternative(f"{spelled}, {title}", make))
    counts = counts_of(case.plan.jobs, len(case.layout.groups) - 1)
    works = floors.step(case.program, counts, len(case.batches(0)[0]), precision)
    return compare(
        name,
        alternatives,
        device,
        precision,
        operations=sum(work.flops for work in works),
        moved_bytes=sum(work.bytes for work in works),
        ceilings=limits,
        tolerance=TOLERANCES[precision] if tolerance is None else tolerance,
    )


def executor(case: Case, device: torch.device | str, precision: Precision) -> CudaExecutor:
    """The engine on a case."""
    batch = max(len(batch) for batch in case.batches(0))
    return CudaExecutor(case.program, case.store, device=device, precision=precision, batch=batch)


def _ours(case: Case, device: torch.device | str, precision: Precision) -> tuple[list[Call], Callable[[], Parts]]:
    engine, jobs = executor(case, device, precision), case.plan.jobs
    batches = [[numpy.asarray(batch) for batch in case.cohort.batches(job.client)] for job in jobs]
    images, rows = engine.images.of([one for own in batches for one in own], "train")
    placed = [[rows(one) for one in own] for own in batches]
    setting = engine.setting(case.plan, list(range(len(jobs))), placed)
    own = Round(engine.around, engine.weights, setting, jobs, case.parameters, images, placed, {})

    def call() -> None:
        own.clock.step.zero_()  # the same batches again
        own.step()

    def results() -> Parts:
        assert own.clock.alive.all(), "a client has diverged: what is timed is less than a step"
        found = []
        for client in range(min(len(jobs), CHECKED)):
            entries = kept_entries(case, client)
            found.append(own.state.masters[client].cpu()[entries] - case.parameters[entries])
        return found

    return [call], results


def _later(
    case: Case, device: torch.device | str, precision: Precision, kind: str, layout: torch.memory_format
) -> Callable[[], tuple[list[Call], Callable[[], Parts]]]:
    return lambda: _library(case, device, precision, kind, layout, True)


def _library(
    case: Case,
    device: torch.device | str,
    precision: Precision,
    kind: str,
    layout: torch.memory_format,
    captured: bool,
) -> tuple[list[Call], Callable[[], Parts]]:
    shared = together(kind, [job.hold.counts for job in case.plan.jobs])
    stacks = [Stacked(case, own, device, precision, layout, masked=kind == "masked") for own in shared]
    run = [stack.step for stack in stacks]

    def in_turn() -> None:
        for one in run:
            one()

    def results() -> Parts:
        found = {client: change for stack in stacks for client, change in stack.changes().items()}
        return [found[client].cpu() for client in sorted(found)[:CHECKED]]

    return [branches(run, device) if captured else in_turn], results
