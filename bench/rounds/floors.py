"""What a local step of a cohort has to multiply and to move at least, launch by launch: the floor on paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bench.kernels.device import Ceilings
from fedlps.engine.cuda.launches import Precision
from fedlps.engine.cuda.network import Product, network
from fedlps.program import Program
from fedlps_kernels.layout import INNER, Layout

MASTER = 4  # bytes


@dataclass(frozen=True)
class Launch:
    """One launch of all clients: additions and multiplications, and bytes read and written."""

    name: str
    operations: int
    moved_bytes: int


def launches(
    program: Program, layout: Layout, counts: torch.Tensor, batch: int, precision: Precision
) -> Iterator[Launch]:
    """Those of a step, every activation and every weight as often as a launch must touch it.

    counts: (C, G). Not counted: sums of units, selections, statistics and the loss, which are small beside them.
    """
    each, made, counted = 2 if precision == "bf16" else 4, network(program), counts.to(torch.int64)
    sizes = [batch * one.positions * one.kept(counted) for one in made.activations]
    kept = int(layout.compact_sizes(counted).sum())
    packs = 1 if precision == "bf16" else 2  # of the other precisions one more, transposed
    yield Launch("gather_weights", 0, packs * kept * (MASTER + each))
    for number, operation in enumerate(made.operations):
        before, behind = int(sizes[number].sum()), int(sizes[number + 1].sum())
        if not isinstance(operation, Product):
            norm = operation.norm is not None
            yield Launch(f"stage {number}", 0, each * (before * (1 + norm) + behind))
            if not operation.first:
                yield Launch(f"stage {number}, gradient", 0, each * ((before + behind) * (1 + norm) + before))
            continue
        inner = int(layout.table[operation.layer, INNER])
        one, other = made.activations[number], made.activations[number + 1]
        weights = inner * other.kept(counted) * one.kept(counted)
        work = 2 * batch * other.positions * int(weights.sum())
        entries = int(weights.sum())
        yield Launch(f"product {number}", work, each * (before + entries + behind))
        yield Launch(f"product {number}, weight gradient", work, each * (before + behind) + MASTER * entries)
        if not operation.first:
            yield Launch(f"product {number}, input gradient", work, each * (before + entries + behind))
    yield Launch("scatter_update", 0, MASTER * (3 * kept + layout.parameters))


def operations(program: Program, layout: Layout, counts: torch.Tensor, batch: int) -> int:
    """Of a whole step."""
    return sum(launch.operations for launch in launches(program, layout, counts, batch, "fp32"))


def traffic(program: Program, layout: Layout, counts: torch.Tensor, batch: int, precision: Precision) -> int:
    """Bytes of a whole step."""
    return sum(launch.moved_bytes for launch in launches(program, layout, counts, batch, precision))


def seconds(
    program: Program, layout: Layout, counts: torch.Tensor, batch: int, precision: Precision, ceilings: Ceilings
) -> float:
    """The sum over the launches, each at the nearer ceiling."""
    return sum(
        max(launch.operations / ceilings.product, launch.moved_bytes / ceilings.copy)
        for launch in launches(program, layout, counts, batch, precision)
    )
