"""Derive a Program from a torch module: which units there are, whose columns they feed, what may be thinned.

The module is traced with torch.fx. Along the graph flows the unit group that a tensor's channels belong to. Whatever is
not understood keeps its inputs' units whole: such a model trains correctly, it is only thinned less.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from fedlps.errors import InputError
from fedlps.program import Group, Layer, Parameter, Program, Step, StepKind

# An activation that maps 0 to 0 leaves a dropped unit without effect, and so does pooling.
ZERO_PRESERVING = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Hardswish, nn.Mish, nn.Dropout, nn.Dropout2d,
    nn.Identity, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
ZERO_PRESERVING_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    [torch.relu, torch.tanh, nn.functional.relu, nn.functional.gelu, nn.functional.silu, nn.functional.leaky_relu]
)
ADDITIONS: frozenset[Callable[..., Any]] = frozenset([operator.add, operator.iadd, torch.add])
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass
class Flow:
    """The units behind dimension 1 of a tensor: their group (-1: none that may be thinned) and positions per unit."""

    group: int
    spread: int = 1
    layer: int | None = None  # the layer that directly made it, before anything else
    trained: bool = True  # parameters stand before it, so that a gradient flows back


@dataclass
class Trace:
    """What is known so far while the graph is walked."""

    module: nn.Module
    offsets: dict[int, int]  # id(parameter) -> offset
    layers: list[Layer] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)  # union-find over groups
    sealed: set[int] = field(default_factory=set)  # groups that must stay whole
    steps: list[Step] = field(default_factory=list)
    obstacle: str | None = None

    def root(self, group: int) -> int:
        while self.parents[group] != group:
            group = self.parents[group]
        return group

    def seal(self, *groups: int) -> None:
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
        self.obstacle = self.obstacle or why


def derive(module: nn.Module, input_shape: tuple[int, ...]) -> Program:
    """The Program of a module that maps (batch, *input_shape) to (batch, classes).

    Raises InputError for a module that cannot be trained: no output of that shape, no parameters, or norms that keep
    running averages (they would be shared between clients unseen).
    """
    for name, child in module.named_modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.track_running_stats:
            raise InputError(f"model: norm {name!r} keeps running averages; build it with track_running_stats=False")
    parameters, offsets = _flat_order(module)
    if not parameters:
        raise InputError("model: got a module without parameters, expected at least one layer")
    trace = Trace(module, offsets)
    with _evaluating(module):
        try:
            graph = fx.symbolic_trace(module)
        except Exception as error:  # fx raises whatever the module's own code raises on a proxy
            trace.no_chain(f"torch.fx cannot trace it ({str(error).splitlines()[0] if str(error) else type(error).__name__})")
            classes = _watch_layers(trace, input_shape)
        else:
            classes = _walk(trace, graph, input_shape)
    layers, groups = _number_groups(trace)
    owned = {offset for layer in layers for offset in (layer.weight, layer.bias, layer.scale, layer.shift)}
    plain = {
        parameter.name: tensor.detach().to(torch.float64).numpy().copy()
        for parameter, tensor in zip(parameters, module.parameters(), strict=True)
        if parameter.offset not in owned
    }
    if plain:
        trace.no_chain(f"parameter {next(iter(plain))!r} belongs to no conv, linear or norm of a chain")
    steps = () if trace.obstacle else tuple(trace.steps)
    batch_statistics = any(isinstance(child, nn.modules.batchnorm._BatchNorm) for child in module.modules())
    return Program(
        tuple(input_shape), classes, layers, groups, parameters, plain, batch_statistics, steps, trace.obstacle
    )


def _flat_order(module: nn.Module) -> tuple[tuple[Parameter, ...], dict[int, int]]:
    parameters, offsets, offset = [], {}, 0
    for name, tensor in module.named_parameters():
        parameters.append(Parameter(name, offset, tuple(tensor.shape)))
        offsets[id(tensor)] = offset
        offset += tensor.numel()
    return tuple(parameters), offsets


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients, so that a look at the shapes changes nothing."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


def _sample(trace: Trace, input_shape: tuple[int, ...]) -> torch.Tensor:
    # Two samples: batch statistics of a single value are undefined.
    dtype = next(trace.module.parameters()).dtype
    return torch.zeros((2, *input_shape), dtype=dtype)


def _walk(trace: Trace, graph: fx.GraphModule, input_shape: tuple[int, ...]) -> int:
    try:
        ShapeProp(graph).propagate(_sample(trace, input_shape))
    except Exception as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise InputError(f"model: cannot take samples of shape {input_shape}: {reason}") from error
    flows: dict[fx.Node, Flow] = {}
    called: set[int] = set()
    modules = dict(graph.named_modules())
    previous: fx.Node | None = None
    for node in graph.graph.nodes:
        sources = node.all_input_nodes
        if node.op == "placeholder":
            flows[node] = Flow(-1, trained=False)
            previous = node
            continue
        if node.op == "output":
            for source in sources:
                trace.seal(flows[source].group)
            if len(sources) != 1 or sources[0] is not previous:
                trace.no_chain("its output is not its last step")
            return _classes(_shape(sources[0]) if len(sources) == 1 else ())
        if node.op == "get_attr":
            flows[node] = Flow(-1)
            trace.no_chain(f"it reads the parameter or buffer {node.target} itself")
            continue
        if len(sources) != 1 or sources[0] is not previous:
            trace.no_chain(f"step {node.name} does not read the step before it alone")
        previous = node
        child = modules.get(str(node.target)) if node.op == "call_module" else None
        held = [id(tensor) for tensor in child.parameters()] if child is not None else []
        if any(identity in called for identity in held):
            # A layer used twice has one row for two places in the graph: keep all its units.
            trace.seal(*(flows[source].group for source in sources))
            trace.seal(*(layer.row_group for layer in trace.layers if layer.weight in map(trace.offsets.get, held)))
            trace.no_chain(f"{node.target} shares its parameters with another step")
            flows[node] = Flow(-1)
            continue
        called.update(held)
        flows[node] = _flow(trace, node, child, [flows[source] for source in sources])
    raise InputError("model: has no output")


def _flow(trace: Trace, node: fx.Node, child: nn.Module | None, inputs: list[Flow]) -> Flow:
    """The units of a node's output."""
    source = inputs[0] if inputs else Flow(-1)
    shape = _shape(node.all_input_nodes[0]) if inputs else ()
    if isinstance(child, nn.Conv2d) and child.groups == 1 and len(shape) == 4:
        return _add_layer(trace, node, child, "conv", source, shape)
    if isinstance(child, nn.Linear) and len(shape) == 2:
        return _add_layer(trace, node, child, "linear", source, shape)
    if isinstance(child, NORMS) and child.affine and source.layer is not None and len(node.all_input_nodes[0].users) == 1:
        layer = trace.layers[source.layer]
        trace.layers[source.layer] = replace(
            layer, scale=trace.offsets[id(child.weight)], shift=trace.offsets[id(child.bias)], gate=str(node.target)
        )
        if child.eps != 1e-5:
            trace.no_chain(f"norm {node.target} has eps {child.eps}, a chain's is 1e-5")
        _step(trace, "norm", node, layer=source.layer)
        return Flow(source.group, source.spread)
    flattened = _flatten_spread(node, child, shape)
    if flattened is not None:
        _step(trace, "flatten", node)
        return Flow(source.group, source.spread * flattened, trained=source.trained)
    if node.target in ADDITIONS and node.op == "call_function" and len(inputs) == 2:
        trace.no_chain(f"step {node.name} adds two branches")
        same = inputs[0].spread == inputs[1].spread and len({_shape(n) for n in node.all_input_nodes}) == 1
        if same:
            return Flow(trace.join(inputs[0].group, inputs[1].group), source.spread)
    elif isinstance(child, ZERO_PRESERVING) or (node.op == "call_function" and node.target in ZERO_PRESERVING_FUNCTIONS):
        _note_chain_step(trace, node, child)
        return Flow(source.group, source.spread, trained=source.trained)
    else:
        trace.no_chain(f"step {node.name} ({type(child).__name__ if child is not None else node.target}) is none of conv, "
                       "linear, norm, ReLU, pooling and flatten")  # fmt: skip
    if isinstance(child, nn.Conv2d | nn.Linear):
        _add_layer(trace, node, child, "conv" if isinstance(child, nn.Conv2d) else "linear", Flow(-1, trained=source.trained), shape)
        trace.seal(trace.layers[-1].row_group)
    trace.seal(*(flow.group for flow in inputs))
    has_parameters = child is not None and next(child.parameters(), None) is not None
    return Flow(-1, trained=has_parameters or any(flow.trained for flow in inputs))


def _add_layer(
    trace: Trace, node: fx.Node, child: nn.Conv2d | nn.Linear, kind: str, source: Flow, shape: tuple[int, ...]
) -> Flow:
    output = _shape(node)
    group = len(trace.parents)
    trace.parents.append(group)
    layer = _layer(trace, str(node.target), child, output, source, group, first=not source.trained)
    trace.layers.append(layer)
    number = len(trace.layers) - 1
    if isinstance(child, nn.Conv2d):
        plain = (
            _square(child.kernel_size) and _square(child.stride) and _square(child.padding)
            and _square(child.dilation) and child.dilation[0] == 1 and child.padding_mode == "zeros"
        )  # fmt: skip
        if not plain:
            trace.no_chain(f"conv {node.target} is not square, or is dilated, or pads with other than zeros")
        else:
            _step(trace, "conv", node, number, child.kernel_size[0], child.stride[0], int(child.padding[0]))
    else:
        _step(trace, "linear", node, number)
    return Flow(group, 1, number)


def _layer(
    trace: Trace, name: str, child: nn.Conv2d | nn.Linear, output: tuple[int, ...], source: Flow, group: int, first: bool
) -> Layer:
    conv = isinstance(child, nn.Conv2d)
    entries = child.weight.shape[1]
    return Layer(
        name=name,
        kind="conv" if conv else "linear",
        row_group=group,
        column_group=source.group,
        rows=child.weight.shape[0],
        columns=entries // source.spread,
        spread=source.spread,
        kernel=math.prod(child.weight.shape[2:]),
        # A linear layer over more dimensions than one is applied at each of their positions.
        positions=math.prod(output[2:]) if conv else math.prod(output[1:-1]),
        reads_input=first,
        weight=trace.offsets[id(child.weight)],
        bias=None if child.bias is None else trace.offsets[id(child.bias)],
        gate=name,
    )


def _watch_layers(trace: Trace, input_shape: tuple[int, ...]) -> int:
    """The layers of a module that cannot be traced, in the order of a forward pass; all their units stay whole."""

    def record(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def hook(child: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            known = {layer.weight for layer in trace.layers}
            if isinstance(child, nn.Conv2d | nn.Linear) and trace.offsets[id(child.weight)] not in known:
                layer = _layer(trace, name, child, tuple(output.shape), Flow(-1), -1, first=not trace.layers)
                trace.layers.append(layer)

        return hook

    handles = [
        child.register_forward_hook(record(name))
        for name, child in trace.module.named_modules()
        if isinstance(child, nn.Conv2d | nn.Linear)
    ]
    try:
        output = trace.module(_sample(trace, input_shape))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"model: cannot take samples of shape {input_shape}: {reason}") from error
    finally:
        for handle in handles:
            handle.remove()
    return _classes(tuple(output.shape) if isinstance(output, torch.Tensor) else ())


def _number_groups(trace: Trace) -> tuple[tuple[Layer, ...], tuple[Group, ...]]:
    """Layers in flat order with their final group numbers; sealed groups become -1."""
    numbers: dict[int, int] = {}
    groups: list[Group] = []

    def final(group: int) -> int:
        return -1 if group < 0 else numbers.get(trace.root(group), -1)

    layers = sorted(trace.layers, key=lambda layer: layer.weight)
    sealed = {trace.root(group) for group in trace.sealed}
    for layer in layers:
        root = trace.root(layer.row_group) if layer.row_group >= 0 else -1
        if root >= 0 and root not in sealed and root not in numbers:
            numbers[root] = len(groups)
            groups.append(Group(layer.rows))
    return (
        tuple(replace(layer, row_group=final(layer.row_group), column_group=final(layer.column_group)) for layer in layers),
        tuple(groups),
    )


def _note_chain_step(trace: Trace, node: fx.Node, child: nn.Module | None) -> None:
    if isinstance(child, nn.ReLU) or node.target in (torch.relu, nn.functional.relu):
        _step(trace, "relu", node)
    elif isinstance(child, nn.MaxPool2d | nn.AvgPool2d):
        kernel, stride, padding = child.kernel_size, child.stride, child.padding
        plain = _square(kernel) and stride == kernel and padding in (0, (0, 0)) and not child.ceil_mode
        if isinstance(child, nn.MaxPool2d):
            plain = plain and child.dilation in (1, (1, 1)) and not child.return_indices
        if not plain:
            trace.no_chain(f"pooling {node.target} overlaps, pads or is not square")
        size = kernel if isinstance(kernel, int) else kernel[0]
        _step(trace, "maxpool" if isinstance(child, nn.MaxPool2d) else "avgpool", node, None, size, size)
    elif not isinstance(child, nn.Identity):
        trace.no_chain(f"step {node.name} is an activation or pooling that a chain does not have")


def _step(
    trace: Trace, kind: StepKind, node: fx.Node, layer: int | None = None, kernel: int = 1, stride: int = 1, padding: int = 0
) -> None:
    trace.steps.append(Step(kind, len(trace.steps) - 1, _shape(node)[1:], layer, kernel, stride, padding))


def _flatten_spread(node: fx.Node, child: nn.Module | None, shape: tuple[int, ...]) -> int | None:
    """Positions per channel that a flatten from dimension 1 lays side by side; None if the node is no such flatten."""
    functional = (node.op == "call_function" and node.target is torch.flatten) or (
        node.op == "call_method" and node.target == "flatten"
    )
    if isinstance(child, nn.Flatten):
        start, end = child.start_dim, child.end_dim
    elif functional:
        start = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
        end = node.args[2] if len(node.args) > 2 else node.kwargs.get("end_dim", -1)
    else:
        return None
    return math.prod(shape[2:]) if start == 1 and end in (-1, len(shape) - 1) else None


def _shape(node: fx.Node) -> tuple[int, ...]:
    meta = node.meta.get("tensor_meta")
    return tuple(getattr(meta, "shape", ()))


def _square(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, tuple) and len(set(value)) == 1 and isinstance(value[0], int))


def _classes(shape: tuple[int, ...]) -> int:
    if len(shape) != 2:
        raise InputError(f"model: output has shape {('batch', *shape[1:])}, expected (batch, classes)")
    return int(shape[1])


def flat_parameters(module: nn.Module) -> numpy.ndarray:
    """The module's own parameters as one (P,) float64 vector in flat order."""
    return numpy.concatenate([tensor.detach().to(torch.float64).numpy().ravel() for tensor in module.parameters()])
