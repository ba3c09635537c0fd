"""What each node of a traced model does to the units that flow through it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from fedlps.program import Layer, Step, StepKind

# An activation that maps 0 to 0 leaves a dropped unit without effect, and so does pooling.
ZERO_PRESERVING = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Hardswish, nn.Mish, nn.Dropout, nn.Dropout2d,
    nn.Identity, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
)  # fmt: skip


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    return nn.Flatten(start_dim, end_dim)


# The module that does what a function or a tensor's method does; the arguments behind the tensor have the same names.
FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {
    torch.relu: nn.ReLU, torch.tanh: nn.Tanh, torch.flatten: _flatten, "relu": nn.ReLU, "tanh": nn.Tanh,
    "flatten": _flatten, functional.relu: nn.ReLU, functional.gelu: nn.GELU, functional.silu: nn.SiLU,
    functional.elu: nn.ELU, functional.leaky_relu: nn.LeakyReLU, functional.max_pool2d: nn.MaxPool2d,
    functional.avg_pool2d: nn.AvgPool2d, functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    functional.dropout: nn.Dropout,
}  # fmt: skip
VIEWS = ("view", "reshape")
ADDITIONS: frozenset[Callable[..., Any]] = frozenset([operator.add, operator.iadd, torch.add])
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
CHAIN_EPS = 1e-5


@dataclass(frozen=True)
class Flow:
    """The units behind dimension 1 of a tensor: their group (-1: none that may be thinned) and positions per unit."""

    group: int
    spread: int = 1
    layer: int | None = None  # the layer that directly made it, before anything else
    step: int = -1  # the step of the chain that made it; -1: it is the sample
    trained: bool = True  # parameters stand before it, so that a gradient flows back


@dataclass
class Trace:
    """What is known so far while a module's graph is walked."""

    module: nn.Module
    offsets: dict[int, int]  # id(parameter) -> offset in the flat vector
    layers: list[Layer] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)  # union-find over groups
    sealed: set[int] = field(default_factory=set)  # groups that must stay whole
    steps: list[Step] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)  # the steps whose outputs are the model's
    obstacle: str | None = None  # the first reason why the module is no chain

    def root(self, group: int) -> int:
        """The group that stands for all those joined with this one."""
        while self.parents[group] != group:
            group = self.parents[group]
        return group

    def new_group(self) -> int:
        """A group of its own."""
        self.parents.append(len(self.parents))
        return self.parents[-1]

    def seal(self, *groups: int) -> None:
        """Keep all units of these groups, always."""
        self.sealed.update(self.root(group) for group in groups if group >= 0)

    def join(self, first: int, second: int) -> int:
        """One group for channels that are added; -1 (and the other kept whole) where one side has none."""
        if min(first, second) < 0:
            self.seal(first, second)
            return -1
        low, high = sorted((self.root(first), self.root(second)))
        self.parents[high] = low
        if high in self.sealed:
            self.sealed.add(low)
        return low

    def no_chain(self, why: str) -> None:
        """Note why the module is no chain; the first reason stays."""
        self.obstacle = self.obstacle or why

    def step(
        self, kind: StepKind, node: fx.Node, source: Flow, *, layer: int | None = None, window: tuple[int, int, int]
    ) -> None:
        """Append a step of the chain that reads a flow. window: kernel, stride, padding."""
        self.steps.append(Step(kind, source.step, shape_of(node)[1:], layer, *window))

    @property
    def last(self) -> int:
        """The number of the last step."""
        return len(self.steps) - 1


NO_WINDOW = (1, 1, 0)


def through(trace: Trace, node: fx.Node, child: nn.Module | None, inputs: list[Flow]) -> Flow:
    """The units of a node's output. child: the module it calls, if any; inputs: the flows of `node.all_input_nodes`."""
    source = inputs[0] if inputs else Flow(-1)
    shape = shape_of(node.all_input_nodes[0]) if inputs else ()
    child = child or _same_as(node)
    if isinstance(child, nn.Conv2d) and child.groups == 1 and len(shape) == 4:
        return _layer(trace, node, child, source)
    if isinstance(child, nn.Linear) and len(shape) == 2:
        return _layer(trace, node, child, source)
    if (
        isinstance(child, NORMS)
        and child.affine
        and source.layer is not None
        and len(node.all_input_nodes[0].users) == 1
    ):
        return _norm(trace, node, child, source, source.layer)
    positions = _flattened(node, child, shape)
    if positions is not None:
        trace.step("flatten", node, source, window=NO_WINDOW)
        return Flow(source.group, source.spread * positions, step=trace.last, trained=source.trained)
    if isinstance(child, ZERO_PRESERVING):
        if not isinstance(child, nn.Identity):
            _elementwise_or_pooling(trace, node, child, source, shape)
            source = replace(source, step=trace.last)
        return Flow(source.group, source.spread, step=source.step, trained=source.trained)
    if node.op == "call_function" and node.target in ADDITIONS and len(inputs) == 2:
        trace.no_chain(f"step {node.name} adds two branches")
        if inputs[0].spread == inputs[1].spread and len({shape_of(side) for side in node.all_input_nodes}) == 1:
            return Flow(trace.join(inputs[0].group, inputs[1].group), source.spread)
    return _unknown(trace, node, child, inputs)


def _unknown(trace: Trace, node: fx.Node, child: nn.Module | None, inputs: list[Flow]) -> Flow:
    """Whatever is not understood keeps its inputs' units whole, and its own."""
    what = type(child).__name__ if child is not None else str(node.target)
    trace.no_chain(f"step {node.name} ({what}) is none of conv, linear, norm, ReLU, pooling and flatten")
    trained = any(flow.trained for flow in inputs)
    if isinstance(child, nn.Conv2d | nn.Linear):
        trace.seal(_layer(trace, node, child, Flow(-1, trained=trained)).group)
    trace.seal(*(flow.group for flow in inputs))
    return Flow(-1, trained=trained or (child is not None and next(child.parameters(), None) is not None))


def _layer(trace: Trace, node: fx.Node, child: nn.Conv2d | nn.Linear, source: Flow) -> Flow:
    name, number = str(node.target), len(trace.layers)
    layer = layer_of(trace, name, child, shape_of(node), source)
    trace.layers.append(layer)
    if isinstance(child, nn.Linear):
        trace.step("linear", node, source, layer=number, window=NO_WINDOW)
    elif (window := _window(child)) is not None:
        trace.step("conv", node, source, layer=number, window=window)
    else:
        trace.no_chain(f"conv {name} is not square, or is dilated, or pads with other than zeros")
    return Flow(layer.row_group, 1, number, trace.last)


def layer_of(trace: Trace, name: str, child: nn.Conv2d | nn.Linear, output: tuple[int, ...], source: Flow) -> Layer:
    """The layer that a module is, its rows a group of their own. output: the shape of its output, with the batch."""
    conv = isinstance(child, nn.Conv2d)
    return Layer(
        name=name,
        kind="conv" if conv else "linear",
        row_group=trace.new_group(),
        column_group=source.group,
        rows=child.weight.shape[0],
        columns=child.weight.shape[1] // source.spread,
        spread=source.spread,
        kernel=math.prod(child.weight.shape[2:]),
        # a linear layer over more dimensions than one is applied at each of their positions
        positions=math.prod(output[2:]) if conv else math.prod(output[1:-1]),
        reads_input=not source.trained,
        weight=trace.offsets[id(child.weight)],
        bias=None if child.bias is None else trace.offsets[id(child.bias)],
        gate=name,
    )


def _norm(trace: Trace, node: fx.Node, child: nn.BatchNorm1d | nn.BatchNorm2d, source: Flow, layer: int) -> Flow:
    """A norm directly behind its layer belongs to it, and so do the gates."""
    trace.layers[layer] = replace(
        trace.layers[layer],
        scale=trace.offsets[id(child.weight)],
        shift=trace.offsets[id(child.bias)],
        gate=str(node.target),
    )
    if child.eps != CHAIN_EPS:
        trace.no_chain(f"norm {node.target} has eps {child.eps}, a chain's is {CHAIN_EPS}")
    trace.step("norm", node, source, layer=layer, window=NO_WINDOW)
    return Flow(source.group, source.spread, step=trace.last)


def _same_as(node: fx.Node) -> nn.Module | None:
    """The module that does the same as a function call, if there is one."""
    if node.op not in ("call_function", "call_method") or node.target not in FUNCTIONS:
        return None
    given = {name: value for name, value in node.kwargs.items() if name != "training"}
    try:
        return FUNCTIONS[node.target](*node.args[1:], **given)
    except (TypeError, ValueError, RuntimeError):  # called in a way that the module cannot be built
        return None


def _elementwise_or_pooling(
    trace: Trace, node: fx.Node, child: nn.Module, source: Flow, shape: tuple[int, ...]
) -> None:
    if isinstance(child, nn.ReLU):
        trace.step("relu", node, source, window=NO_WINDOW)
    elif isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)) and _square(shape[2:]):
        trace.step("avgpool", node, source, window=(shape[2], shape[2], 0))
    elif isinstance(child, nn.MaxPool2d | nn.AvgPool2d):
        kernel = child.kernel_size
        plain = _square(kernel) and child.stride == kernel and child.padding in (0, (0, 0)) and not child.ceil_mode
        if isinstance(child, nn.MaxPool2d):
            plain = plain and child.dilation in (1, (1, 1)) and not child.return_indices
        if not plain:
            trace.no_chain(f"pooling {node.target} overlaps, pads or is not square")
        size = kernel if isinstance(kernel, int) else kernel[0]
        kind: StepKind = "maxpool" if isinstance(child, nn.MaxPool2d) else "avgpool"
        trace.step(kind, node, source, window=(size, size, 0))
    else:
        trace.no_chain(f"step {node.name} is an activation or pooling that a chain does not have")


def _flattened(node: fx.Node, child: nn.Module | None, shape: tuple[int, ...]) -> int | None:
    """Positions per channel that a flatten from dimension 1 lays side by side; None if the node is no such flatten."""
    if isinstance(child, nn.Flatten):
        flat = (child.start_dim, child.end_dim) in ((1, -1), (1, len(shape) - 1))
    else:
        viewed = node.op == "call_method" and node.target in VIEWS
        flat = viewed and shape_of(node) == (shape[0], math.prod(shape[1:]))
    return math.prod(shape[2:]) if flat else None


def _window(child: nn.Conv2d) -> tuple[int, int, int] | None:
    """Kernel, stride and padding, if a chain can say them."""
    sides = (child.kernel_size, child.stride, child.padding, child.dilation)
    if not all(map(_square, sides)) or child.dilation[0] != 1 or child.padding_mode != "zeros":
        return None
    return child.kernel_size[0], child.stride[0], int(child.padding[0])


def _square(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, tuple) and len(set(value)) == 1 and isinstance(value[0], int))


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's output, with the batch; empty if it is no tensor."""
    shape: tuple[int, ...] = node.meta.get("shape", ())
    return shape
