"""A chain as its launches: weighted layers, and between them stages of norm, ReLU and pooling in one pass each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch

from fedlps.program import Program, Step


@dataclass(frozen=True)
class Activation:
    """What an operation reads or writes, per sample. group: of its channels; -1: all of them are always kept."""

    group: int
    channels: int
    height: int
    width: int

    @property
    def positions(self) -> int:
        """Of one sample and channel."""
        return self.height * self.width

    def kept(self, counts: torch.Tensor) -> torch.Tensor:
        """The channels that each client has, (C,). counts: (C, G), kept units per group."""
        if self.group < 0:
            return torch.full((len(counts),), self.channels, dtype=counts.dtype, device=counts.device)
        return counts[:, self.group]


@dataclass(frozen=True)
class Product:
    """A weighted layer. layer: its row in the layout's table. first: its input is made of samples alone."""

    layer: int
    kind: Literal["conv", "linear"]
    group: int  # of its rows; -1: never thinned, and so never scaled
    first: bool
    kernel: int = 1
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True)
class Stage:
    """Norm, then ReLU, then pooling; each may be missing. Around a maximum, ReLU gives the same on either side.

    norm: the row of the layer whose scale and shift it has. window: of the pooling, which does not overlap.
    """

    norm: int | None = None
    relu: bool = False
    pool: Literal["max", "avg"] | None = None
    window: int = 1
    first: bool = False  # before any layer: nobody asks for its gradient


Operation = Product | Stage


@dataclass(frozen=True)
class Network:
    """Operation number n reads activation n and writes activation n + 1; activation 0 is the sample."""

    operations: tuple[Operation, ...]
    activations: tuple[Activation, ...]
    classes: int

    @property
    def norms(self) -> list[tuple[int, int]]:
        """The operations that need batch statistics, and the layers whose scales and shifts they have."""
        stages = [(number, one) for number, one in enumerate(self.operations) if isinstance(one, Stage)]
        return [(number, stage.norm) for number, stage in stages if stage.norm is not None]


def why_not(program: Program) -> str:
    """Why no launches can be made of a program; empty if they can."""
    if program.obstacle is not None:
        return f"the model is no chain, {program.obstacle}"
    if len(program.exits) != 1:
        return f"the model has {len(program.exits)} exits, the CUDA engine runs one"
    if any(step.input != number - 1 for number, step in enumerate(program.steps)):
        return "the model's steps do not follow one another"
    if network(program).activations[-1].positions != 1:
        return "the model's classes are positions of a convolution"
    return ""


def network(program: Program) -> Network:
    """The launches of a chain with one exit."""
    shape = (*program.input_shape, 1, 1)[:3]
    activations = [Activation(-1, *shape)]
    operations: list[Operation] = []
    for operation, last in _operations(program):
        step = program.steps[last]
        before = activations[-1]
        group = program.layers[operation.layer].row_group if isinstance(operation, Product) else before.group
        flat = len(step.shape) == 1 and isinstance(operation, Stage)  # behind a flatten channels stay as they lie
        shape = (before.channels, before.height, before.width) if flat else (*step.shape, 1, 1)[:3]
        activations.append(Activation(group, *shape))
        operations.append(operation)
    return Network(tuple(operations), tuple(activations), program.classes)


def _operations(program: Program) -> Iterator[tuple[Operation, int]]:
    """Each operation, and the last of the steps that it takes."""
    stage: Stage | None = None
    last, first = -1, True
    for number, step in enumerate(program.steps):
        if step.kind == "flatten":
            continue
        if stage is not None and (longer := _with(stage, step)):
            stage, last = longer, number
            continue
        if stage is not None:
            yield stage, last
        stage, last = None, number
        if step.kind in ("conv", "linear") and step.layer is not None:
            layer = program.layers[step.layer]
            window = (step.kernel, step.stride, step.padding)
            yield Product(step.layer, layer.kind, layer.row_group, first, *window), number
            first = False
        else:
            stage = _with(Stage(first=first), step)
    if stage is not None:
        yield stage, last


def _with(stage: Stage, step: Step) -> Stage | None:
    """The stage with a step behind it; None if it cannot take it."""
    match step.kind:
        case "norm" if stage == Stage(first=stage.first):
            return replace(stage, norm=step.layer)
        case "relu" if stage.pool != "avg":
            return replace(stage, relu=True)
        case "maxpool" | "avgpool" if stage.pool is None:
            return replace(stage, pool="max" if step.kind == "maxpool" else "avg", window=step.kernel)
    return None
