"""A model as the engine sees it: its layers, its unit groups and where everything lies in one flat vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy

from fedlps.randomness import Purpose, stream

if TYPE_CHECKING:
    from fedlps_kernels.layout import Layout

StepKind = Literal["conv", "linear", "norm", "relu", "maxpool", "avgpool", "flatten"]


@dataclass(frozen=True)
class Step:
    """One operation of a chain. `input` is the step it reads (-1: the sample); `layer` its layer in flat order."""

    kind: StepKind
    input: int
    shape: tuple[int, ...]  # of one sample's output
    layer: int | None = None
    kernel: int = 1
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True)
class Layer:
    """A weighted layer (conv, linear), in flat order; the symbols are those of the specification's section 1."""

    name: str
    kind: Literal["conv", "linear"]
    row_group: int  # group of its rows; -1: never thinned
    column_group: int  # group of its columns; -1: all kept
    rows: int  # J_l
    columns: int  # column units: input channels, or units of the layer before
    spread: int  # flattened positions per column unit; 1 unless behind a flatten
    kernel: int  # kernel area; 1 for linear
    positions: int  # output height * width of a conv, 1 for linear
    reads_input: bool  # its input is the sample, so no gradient flows to it
    weight: int  # offset in the flat vector, as bias, scale and shift (a norm's, directly behind the layer)
    bias: int | None = None
    scale: int | None = None
    shift: int | None = None
    gate: str = ""  # the module whose output its units' gates multiply: the norm if there is one, else the layer

    @property
    def inner(self) -> int:
        """Weight entries per row and column unit."""
        return self.spread * self.kernel

    @property
    def fan_in(self) -> int:
        """Weight entries per row."""
        return self.columns * self.inner


@dataclass(frozen=True)
class Group:
    """Units that are kept or dropped together: one layer's, or those of several layers joined by an addition."""

    units: int


@dataclass(frozen=True)
class Parameter:
    """A named tensor of the module and its place in the flat vector."""

    name: str
    offset: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Its number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Program:
    """A model, derived from a torch module by `fedlps.trace.derive`.

    parameters lists the flat vector in the order of the module's `parameters()`; plain maps the parameters that belong
    to no layer to the values the module was built with. steps is empty where the module is no chain; obstacle then
    says why. exits are the steps whose outputs are the model's: the last one, or several where the chain branches.
    """

    input_shape: tuple[int, ...]
    classes: int
    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]
    parameters: tuple[Parameter, ...]
    plain: dict[str, numpy.ndarray]
    batch_statistics: bool = False  # a norm sees the whole batch, so outputs depend on a sample's neighbours
    steps: tuple[Step, ...] = ()
    exits: tuple[int, ...] = ()
    obstacle: str | None = None

    @property
    def size(self) -> int:
        """P, the entries of the flat vector."""
        return sum(parameter.size for parameter in self.parameters)

    @property
    def units(self) -> int:
        """U, the units of all groups."""
        return sum(group.units for group in self.groups)

    def counts(self, ratio: float) -> tuple[int, ...]:
        """Kept units per group at a ratio: max(1, floor(ratio * J + 1e-9)) (section 1)."""
        return tuple(max(1, math.floor(ratio * group.units + 1e-9)) for group in self.groups)

    def layout(self) -> Layout:
        """The layout the ops work on."""
        import torch

        from fedlps_kernels.layout import Layout

        rows = []
        for layer in self.layers:
            vectors = [-1 if offset is None else offset for offset in (layer.bias, layer.scale, layer.shift)]
            groups = (layer.row_group, layer.column_group)
            rows.append((layer.weight, (*groups, layer.rows, layer.columns, layer.inner, layer.weight, *vectors)))
        for parameter in self.parameters:
            if parameter.name in self.plain:
                rows.append((parameter.offset, (-1, -1, parameter.size, 1, 1, parameter.offset, -1, -1, -1)))
        edges = numpy.cumsum([0, *(group.units for group in self.groups)])
        return Layout(
            table=torch.tensor([row for _, row in sorted(rows)], dtype=torch.int64).reshape(-1, 9),
            groups=torch.from_numpy(edges.astype(numpy.int64)),
            parameters=self.size,
        )


def initial_parameters(program: Program, seed: int) -> numpy.ndarray:
    """The parameters before round 0: (P,) float64, drawn in flat layout order from stream 2 (section 9).

    Weights and biases are uniform in +-1/sqrt(fan_in), scales 1, shifts 0; what belongs to no layer keeps the module's
    own values.
    """
    rng = stream(seed, Purpose.INITIAL_PARAMETERS)
    bounds: dict[int, float] = {}
    values = numpy.zeros(program.size)
    for layer in program.layers:
        bounds[layer.weight] = 1 / math.sqrt(layer.fan_in)
        if layer.bias is not None:
            bounds[layer.bias] = bounds[layer.weight]
        if layer.scale is not None:
            values[layer.scale : layer.scale + layer.rows] = 1
    for parameter in program.parameters:
        place = slice(parameter.offset, parameter.offset + parameter.size)
        if parameter.name in program.plain:
            values[place] = program.plain[parameter.name].ravel()
        elif parameter.offset in bounds:
            bound = bounds[parameter.offset]
            values[place] = rng.uniform(-bound, bound, parameter.size)
    return values
