"""A layer's product for all clients in one launch of the CUDA engine, beside the library."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.kernels.device import Alternative, Call, Comparison, compare, sets
from bench.kernels.layers import Layer
from bench.kernels.libraries import Drawn, alternatives
from bench.kernels.operands import Operands, Parts, clients
from fedlps.engine.cuda.launches import Precision

DIRECTIONS = ("forward", "input gradient", "weight gradient")


def product(name: str, layer: Layer, direction: str, device: torch.device | str, precision: Precision) -> Comparison:
    """One direction of a layer for its cohort."""
    operands = Operands(layer, device, precision)
    inputs, weights, outputs = operands.sizes
    each = operands.store.itemsize
    moved = each * (inputs + outputs) + (4 if direction == "weight gradient" else each) * weights
    drawn = [operands.draw() for _ in range(sets(moved, device))]
    ours = Alternative("ours", lambda: _ours(operands, direction, drawn))
    others = alternatives(operands, direction, drawn)
    return compare(name, [ours, *others], device, precision, operations=layer.operations, moved_bytes=moved)


def _ours(operands: Operands, direction: str, drawn: list[Drawn]) -> tuple[list[Call], Callable[[], Parts]]:
    made = [_launch(operands, direction, each) for each in drawn]
    return [call for call, _ in made], made[0][1]


def _launch(operands: Operands, direction: str, drawn: Drawn) -> tuple[Call, Callable[[], Parts]]:
    """One launch, and every client's part of what it wrote."""
    products, samples, window = operands.launches.products, operands.samples, operands.window
    inputs, weights, gradient = drawn
    if direction == "forward":
        read, packed, outputs = operands.inputs(inputs), operands.weights(weights), operands.outputs()
        return lambda: products.forward(read, packed, 0, samples, outputs, window, None), lambda: clients(outputs)
    behind = operands.outputs(gradient)
    if direction == "input gradient":
        turned, result = operands.weights(weights, backward=True), operands.inputs()
        given = behind, turned, 0, samples, result, window, None
        return lambda: products.input_gradient(*given), lambda: clients(result)
    read, found = operands.inputs(inputs), operands.gradient()
    wanted = read, behind, 0, samples, found, window, None
    return lambda: products.weight_gradient(*wanted), lambda: operands.unpacked(found)
