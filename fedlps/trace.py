"""Derive a Program from a torch module: which units there are, whose columns they feed, what may be thinned.

The module is traced with torch.fx. Along the graph flows the unit group that a tensor's channels belong to
(`fedlps.flow`). What is not understood keeps its units whole: such a model trains correctly, it is only thinned less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy
import torch
from torch import fx, nn

from fedlps.errors import InputError
from fedlps.flow import Flow, Trace, layer_of, shape_of, through
from fedlps.program import Group, Layer, Parameter, Program


def derive(module: nn.Module, input_shape: tuple[int, ...]) -> Program:
    """The Program of a module that maps (batch, *input_shape) to (batch, classes).

    Raises InputError for a module that cannot be trained: no output of that shape, no parameters, or norms that keep
    running averages (they would be shared between clients unseen).
    """
    for name, child in module.named_modules():
        if getattr(child, "track_running_stats", False):
            raise InputError(f"model: norm {name!r} keeps running averages; build it with track_running_stats=False")
    parameters, offsets = _flat_order(module)
    if not parameters:
        raise InputError("model: got a module without parameters, expected at least one layer")
    trace = Trace(module, offsets)
    with _evaluating(module):
        try:
            graph = fx.symbolic_trace(module)
        except Exception as error:  # fx raises whatever the module's own code raises on a proxy
            trace.no_chain(f"torch.fx cannot trace it ({_first_line(error)})")
            classes = _watch_layers(trace, input_shape)
        else:
            classes = _walk(trace, graph, input_shape)
    layers, groups = _number_groups(trace)
    order = sorted(range(len(layers)), key=lambda number: trace.layers[number].weight)
    flat = {number: place for place, number in enumerate(order)}
    steps = tuple(replace(step, layer=None if step.layer is None else flat[step.layer]) for step in trace.steps)
    owned = {offset for layer in layers for offset in (layer.weight, layer.bias, layer.scale, layer.shift)}
    plain = {
        parameter.name: tensor.detach().to(torch.float64).numpy().copy()
        for parameter, tensor in zip(parameters, module.parameters(), strict=True)
        if parameter.offset not in owned
    }
    if plain:
        trace.no_chain(f"parameter {next(iter(plain))!r} belongs to no conv, linear or norm of a chain")
    return Program(
        input_shape=tuple(input_shape),
        classes=classes,
        layers=layers,
        groups=groups,
        parameters=parameters,
        plain=plain,
        batch_statistics=any(map(_is_batch_norm, module.modules())),
        steps=() if trace.obstacle else steps,
        exits=() if trace.obstacle else tuple(trace.exits),
        obstacle=trace.obstacle,
    )


def flat_parameters(module: nn.Module) -> numpy.ndarray:
    """The module's own parameters as one (P,) float64 vector in flat order."""
    return numpy.concatenate([tensor.detach().to(torch.float64).numpy().ravel() for tensor in module.parameters()])


def _flat_order(module: nn.Module) -> tuple[tuple[Parameter, ...], dict[int, int]]:
    parameters, offsets, offset = [], {}, 0
    for name, tensor in module.named_parameters():
        parameters.append(Parameter(name, offset, tuple(tensor.shape)))
        offsets[id(tensor)] = offset
        offset += tensor.numel()
    return tuple(parameters), offsets


class _Shapes(fx.Interpreter):
    """Runs a traced module and notes at every node the shape of what came out.

    torch's own ShapeProp does the same, but imports sympy for it, half a second.
    """

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            n.meta["shape"] = tuple(result.shape)
        return result


def _walk(trace: Trace, graph: fx.GraphModule, input_shape: tuple[int, ...]) -> int:
    """Follow the units through the graph. Returns the number of classes."""
    try:
        _Shapes(graph).run(_sample(trace, input_shape))
    except Exception as error:
        raise _wrong_input(input_shape, error) from error
    modules = dict(graph.named_modules())
    flows: dict[fx.Node, Flow] = {}
    called: set[int] = set()
    for node in graph.graph.nodes:
        if _is_size(node):
            continue  # numbers, through which no units flow
        sources = [source for source in node.all_input_nodes if not _is_size(source)]
        if node.op == "placeholder":
            flows[node] = Flow(-1, trained=False)
        elif node.op == "output":
            trace.seal(*(flows[source].group for source in sources))
            trace.exits = [flows[source].step for source in sources]
            return _classes({shape_of(source) for source in sources})
        elif node.op == "get_attr":
            flows[node] = Flow(-1)
            trace.no_chain(f"it reads the parameter or buffer {node.target} itself")
        else:
            if len(sources) != 1:
                trace.no_chain(f"step {node.name} does not read one other step alone")
            child = modules.get(str(node.target)) if node.op == "call_module" else None
            held = {id(tensor) for tensor in child.parameters()} if child is not None else set()
            inputs = [flows[source] for source in sources]
            flows[node] = _used_again(trace, held, inputs) if held & called else through(trace, node, child, inputs)
            called |= held
    raise InputError("model: has no output")


def _is_size(node: fx.Node) -> bool:
    return node.op == "call_method" and node.target == "size"


def _used_again(trace: Trace, held: set[int], inputs: list[Flow]) -> Flow:
    """A layer used twice has one row for two places in the graph: keep all units it touches."""
    shared = {trace.offsets[identity] for identity in held}
    trace.seal(*(flow.group for flow in inputs), *(layer.row_group for layer in trace.layers if layer.weight in shared))
    trace.no_chain("a layer shares its parameters with another step")
    return Flow(-1)


def _watch_layers(trace: Trace, input_shape: tuple[int, ...]) -> int:
    """The layers of a module that cannot be traced, as a forward pass meets them; all their units stay whole."""

    def record(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def hook(child: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            known = {layer.weight for layer in trace.layers}
            if isinstance(child, nn.Conv2d | nn.Linear) and trace.offsets[id(child.weight)] not in known:
                layer = layer_of(trace, name, child, tuple(output.shape), Flow(-1, trained=bool(known)))
                trace.layers.append(layer)
                trace.seal(layer.row_group)

        return hook

    layers = [(name, child) for name, child in trace.module.named_modules() if isinstance(child, nn.Conv2d | nn.Linear)]
    handles = [child.register_forward_hook(record(name)) for name, child in layers]
    try:
        output = trace.module(_sample(trace, input_shape))
    except Exception as error:
        raise _wrong_input(input_shape, error) from error
    finally:
        for handle in handles:
            handle.remove()
    outputs = output if isinstance(output, tuple) else (output,)
    return _classes({tuple(exit_.shape) if isinstance(exit_, torch.Tensor) else () for exit_ in outputs})


def _number_groups(trace: Trace) -> tuple[tuple[Layer, ...], tuple[Group, ...]]:
    """Layers in flat order with their final group numbers; sealed groups become -1."""
    layers = sorted(trace.layers, key=lambda layer: layer.weight)
    sealed = {trace.root(group) for group in trace.sealed}
    numbers: dict[int, int] = {}
    groups: list[Group] = []
    for layer in layers:
        root = trace.root(layer.row_group)
        if root not in sealed and root not in numbers:
            numbers[root] = len(groups)
            groups.append(Group(layer.rows))

    def final(group: int) -> int:
        return -1 if group < 0 else numbers.get(trace.root(group), -1)

    numbered = [
        replace(layer, row_group=final(layer.row_group), column_group=final(layer.column_group)) for layer in layers
    ]
    return tuple(numbered), tuple(groups)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, buffers put back: a look at the shapes changes nothing."""
    was_training, buffers = module.training, [(buffer, buffer.clone()) for buffer in module.buffers()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)
        for buffer, values in buffers:
            buffer.copy_(values)


def _sample(trace: Trace, input_shape: tuple[int, ...]) -> torch.Tensor:
    # two samples: batch statistics of a single value are undefined
    return torch.zeros((2, *input_shape), dtype=next(trace.module.parameters()).dtype)


def _is_batch_norm(child: nn.Module) -> bool:
    return isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm)


def _classes(shapes: set[tuple[int, ...]]) -> int:
    """The number of classes, from the shapes of the outputs: one, or several exits that agree."""
    shape = min(shapes, default=())
    if len(shapes) != 1 or len(shape) != 2:
        shown = " and ".join(str(("batch", *shape[1:])) for shape in sorted(shapes))
        raise InputError(f"model: output has shape {shown}, expected (batch, classes)")
    return int(shape[1])


def _wrong_input(input_shape: tuple[int, ...], error: BaseException) -> InputError:
    return InputError(f"model: cannot take samples of shape {input_shape}: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
