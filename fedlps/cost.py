"""What a client's local round costs: operations, bytes and seconds, computed from the model and the widths it trained.

Integers are exact. A method whose submodel is not kept rows and columns composes the parts (`paper_flops`,
`submodel_entries`, `local_seconds`) with its own numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedlps.program import Layer, Program

VALUE_BYTES = 4


@dataclass(frozen=True)
class Rates:
    """A device of capability 1 and its link: flops_per_second F, bytes_per_second W (upload), alpha its weight."""

    flops_per_second: float = 727e9
    bytes_per_second: float = 14e6
    alpha: float = 1.0


@dataclass(frozen=True)
class Work:
    """A client's local round apart from its width: training samples |D|, batch size B, epochs E.

    pattern_sent: the kept units travel with the upload, one bit per thinned unit; without, only values do.
    """

    samples: int
    batch: int
    epochs: int
    pattern_sent: bool = True


@dataclass(frozen=True)
class LocalCost:
    """One local round of one client. flops_paper: the paper's count. flops_executed: what the submodel multiplies."""

    flops_paper: int
    flops_executed: int
    bytes_up: int
    bytes_down: int
    seconds: float


def kept_rows(layer: Layer, counts: Sequence[int]) -> int:
    """Units of a layer that are kept. counts: kept units per group."""
    return layer.rows if layer.row_group < 0 else counts[layer.row_group]


def kept_columns(layer: Layer, counts: Sequence[int]) -> int:
    """Column units of a layer that are kept. counts: kept units per group."""
    return layer.columns if layer.column_group < 0 else counts[layer.column_group]


def row_weights(program: Program, counts: Sequence[int]) -> tuple[int, ...]:
    """Weights per layer under row masks: kept rows, all columns. What the paper counts for kept units."""
    return tuple(kept_rows(layer, counts) * layer.fan_in for layer in program.layers)


def submodel_weights(program: Program, counts: Sequence[int]) -> tuple[int, ...]:
    """Weights per layer of the submodel: kept rows, kept columns."""
    return tuple(kept_rows(layer, counts) * kept_columns(layer, counts) * layer.inner for layer in program.layers)


def paper_flops(program: Program, weights: Sequence[int]) -> int:
    """Forward operations of one sample by the paper's count. weights: counted weights per layer.

    Two per weight and position, one per unit with a bias, kept or not, of a layer with any weight; norms, activations
    and pooling are free.
    """
    return sum(
        layer.positions * (2 * counted + (layer.rows if layer.bias is not None and counted else 0))
        for layer, counted in zip(program.layers, weights, strict=True)
    )


def training_flops(program: Program, weights: Sequence[int], trained: Sequence[bool]) -> int:
    """Training operations of one sample that are really computed. weights: multiplied weights per layer.

    Two per weight and position for the forward pass, two for the weight gradient of a layer that trains, two for its
    input gradient if a layer below it trains.
    """
    total, below = 0, False
    for layer, multiplied, trains in zip(program.layers, weights, trained, strict=True):
        products = 1 + trains + (below and not layer.reads_input)
        total += 2 * layer.positions * multiplied * products
        below = below or trains
    return total


def executed_flops(program: Program, weights: Sequence[int]) -> int:
    """Training operations of one sample when every layer trains: all three products but for the layer that reads the
    sample, which has no input gradient.
    """
    return training_flops(program, weights, [True] * len(program.layers))


def submodel_entries(program: Program, counts: Sequence[int]) -> int:
    """Entries of the flat vector that a submodel holds: those of its units, and all that belong to no layer."""
    vectors = sum(
        kept_rows(layer, counts) * sum(offset is not None for offset in (layer.bias, layer.scale, layer.shift))
        for layer in program.layers
    )
    plain = sum(parameter.size for parameter in program.parameters if parameter.name in program.plain)
    return sum(submodel_weights(program, counts)) + vectors + plain


def pattern_bytes(program: Program) -> int:
    """Bytes that say which units are kept: one bit per thinned unit of all groups together."""
    return -(-program.units // 8)


def local_seconds(flops_paper: int, bytes_up: int, capability: float, rates: Rates) -> float:
    """Seconds of a local round (14): computing at the device's speed, then the upload."""
    return flops_paper / (rates.flops_per_second * capability) + rates.alpha * bytes_up / rates.bytes_per_second


def local_cost(program: Program, counts: Sequence[int], work: Work, capability: float, rates: Rates) -> LocalCost:
    """The cost of one local round with a submodel of kept units.

    counts: kept units per group. capability: the device's speed relative to the fastest, in (0, 1]. The download is the
    whole model.
    """
    batches = -(-work.samples // work.batch)  # the paper counts a short last batch as a full one
    flops_paper = 3 * paper_flops(program, row_weights(program, counts)) * work.batch * work.epochs * batches
    flops_executed = executed_flops(program, submodel_weights(program, counts)) * work.epochs * work.samples
    bytes_up = VALUE_BYTES * submodel_entries(program, counts) + (pattern_bytes(program) if work.pattern_sent else 0)
    seconds = local_seconds(flops_paper, bytes_up, capability, rates)
    return LocalCost(flops_paper, flops_executed, bytes_up, VALUE_BYTES * program.size, seconds)


def relative_cost(program: Program, counts: Sequence[int], work: Work, capability: float, rates: Rates) -> float:
    """Seconds over those of the same client with all units on the fastest device: the bandit's cost."""
    everything = tuple(group.units for group in program.groups)
    full = local_cost(program, everything, work, 1.0, rates)
    return local_cost(program, counts, work, capability, rates).seconds / full.seconds
