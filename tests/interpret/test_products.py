"""Convolutions and linear layers of unequal clients, and their gradients, against the definitions."""

from functools import partial
from types import ModuleType

import pytest
import torch

pytest.importorskip("triton")

from fedlps_kernels import launching
from fedlps_kernels.arena import Arena
from fedlps_kernels.grouped_conv2d import definition
from fedlps_kernels.grouped_conv2d import triton as conv
from fedlps_kernels.grouped_linear import triton as linear
from fedlps_kernels.tuning import DTYPES, PRECISIONS, PRODUCTS, Block, Precision, Product
from tests.interpret.layer import Layer, Shape
from tests.interpret.memory import Memory, guarded

SHAPES = {
    "unequal": Shape((7, 5), 3, [3, 0, 1, 2], [7, 3, 1, 0], [5, 2, 1, 1], 5, 4, 3, 1, 1),
    "strided": Shape((20, 18), 2, [2, 1], [20, 1], [17, 0], 7, 6, 3, 2, 1),
    "unpadded": Shape((5, 3), 2, [2, 1], [5, 2], [3, 1], 6, 5, 4, 1, 0),
    "several_tiles": Shape((70, 66), 5, [5, 4], [70, 33], [66, 16], 4, 4, 2, 1, 1),
    "long_steps": Shape((2, 3), 1, [1, 1], [2, 1], [3, 3], 5, 8, 2, 3, 0),
    "linear": Shape((20, 40), 70, [70, 1, 0], [20, 5, 1], [40, 17, 3]),
    "flattened": Shape((10, 17), 3, [3, 2], [10, 1], [17, 3], 2, 3, flat=True),
}
DEFINED = {
    "forward": definition.grouped_conv2d,
    "input_gradient": definition.input_gradient,
    "weight_gradient": definition.weight_gradient,
}


def module(layer: Layer) -> ModuleType:
    """Linear layers have no window."""
    return linear if layer.shape.flat or layer.shape.inner == 1 else conv


def flattened(layer: Layer, arena: Arena) -> Arena:
    return arena.flattened() if layer.shape.flat else arena


def tiles(layer: Layer, product: Product):
    shape = layer.shape
    columns = flattened(layer, layer.arena(layer.columns, shape.maps)).channels.cpu()
    positions = 1 if shape.flat else (shape.height * shape.width)
    positions = positions if product == "input_gradient" else shape.target[0] * shape.target[1]
    kernel = 1 if shape.flat else shape.kernel
    found = conv.tiles_of(product, layer.rows, columns, shape.most, shape.room, positions, kernel, layer.precision)
    place = layer.memory.place
    return type(found)(place(found.records), place(found.number), found.block, found.splits)


def window(layer: Layer) -> dict[str, int]:
    return {} if module(layer) is linear else layer.shape.window


def forward(layer: Layer, **options) -> Arena:
    outputs = layer.arena(layer.rows, layer.shape.target)
    inputs = flattened(layer, layer.arena(layer.columns, layer.shape.maps, layer.inputs))
    given = inputs, layer.pack(layer.packed), layer.packed, 0, layer.samples, outputs, tiles(layer, "forward")
    module(layer).forward(*given, **window(layer), scale=layer.scale, precision=layer.precision, **options)
    return outputs


def input_gradient(layer: Layer, transposed: bool, **options) -> Arena:
    inputs = layer.arena(layer.columns, layer.shape.maps)
    gradient = layer.arena(layer.rows, layer.shape.target, layer.gradient)
    at = layer.transposed if transposed else layer.packed
    given = gradient, layer.pack(at), at, 0, layer.samples, flattened(layer, inputs), tiles(layer, "input_gradient")
    options |= {"scale": layer.scale, "precision": layer.precision, "transposed": transposed}
    module(layer).input_gradient(*given, **window(layer), **options)
    return inputs


def weight_gradient(layer: Layer, **options) -> torch.Tensor:
    inputs = flattened(layer, layer.arena(layer.columns, layer.shape.maps, layer.inputs))
    gradient = layer.arena(layer.rows, layer.shape.target, layer.gradient)
    result, list_ = layer.memory.nans(layer.packed.size), tiles(layer, "weight_gradient")
    workspace = layer.memory.nans(conv.partial_size(list_))
    given = inputs, gradient, layer.samples, result, layer.packed, 0, list_, workspace
    module(layer).weight_gradient(*given, **window(layer), scale=layer.scale, precision=layer.precision, **options)
    return result


def defined(layer: Layer, product: Product):
    """The definition's, of a linear layer as a convolution whose kernel is the map; scaled."""
    shape = layer.shape
    window = {"stride": shape.stride, "padding": shape.padding}
    side = shape.maps if shape.flat else (shape.kernel, shape.kernel)
    weights = layer.weights.unflatten(3, side)
    counts = layer.samples, layer.columns, layer.rows
    wide = layer.scale.double().view(-1, 1, 1, 1, 1)
    inputs = layer.inputs
    if shape.flat:  # every input is a column of its own: (C, N, I, 1, 1)
        inputs, weights = (values.flatten(2)[..., None, None] for values in (inputs, weights))
        counts = layer.samples, layer.columns * shape.inner, layer.rows
        side = (1, 1)
    if product == "forward":
        return definition.grouped_conv2d(inputs, weights, layer.bias, *counts, **window) * wide
    if product == "input_gradient":
        sizes = dict(zip(("height", "width"), inputs.shape[3:], strict=True))
        found = definition.input_gradient(layer.gradient, weights, *counts, **sizes, **window) * wide
        return found.view(layer.inputs.shape)
    found, bias = definition.weight_gradient(inputs, layer.gradient, *counts, kernel=side[0], **window)
    return found.view(layer.weights.shape) * wide[..., 0], bias * wide[:, 0, 0, 0]


def expect_weights(layer: Layer, got: torch.Tensor) -> None:
    """Weight and bias as defined, and pads of zeros: nothing of the buffer is left as it was."""
    weights, bias = defined(layer, "weight_gradient")
    errors, rest = [], got.clone()
    for client, (rows, columns) in enumerate(layer.counts.tolist()):
        at = layer.entries(layer.packed, client)
        errors += [got[at[0]] - weights[client, :rows, :columns], got[at[1]] - bias[client, :rows]]
        rest[at[0]], rest[at[1]] = 0, 0
    assert torch.equal(rest, torch.zeros_like(rest)), "pads are not zero"
    layer.small(torch.cat([error.flatten() for error in errors]), weights, "fp32")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_matches_definition(shape: Shape, precision: Precision) -> None:
    with guarded() as memory:
        layer = Layer(shape, precision, memory)
        layer.expect(forward(layer), defined(layer, "forward"))
        for transposed in (False, True):
            layer.expect(input_gradient(layer, transposed), defined(layer, "input_gradient"))
        expect_weights(layer, weight_gradient(layer))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_operands_of_half_precision(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """float16 in the place of bfloat16, which the interpreter multiplies as it is: there without the switch that
    bfloat16 needs. What is stored is made through bfloat16, which needs it."""
    monkeypatch.setitem(DTYPES, "bf16", torch.float16)
    with guarded() as memory:
        layer = Layer(shape, "bf16", memory)
        layer.expect(forward(layer), defined(layer, "forward"))
        for transposed in (False, True):
            layer.expect(input_gradient(layer, transposed), defined(layer, "input_gradient"))
        monkeypatch.setattr(launching, "interpreted", lambda: False)
        expect_weights(layer, weight_gradient(layer))


@pytest.mark.parametrize("product", [forward, partial(input_gradient, transposed=True), weight_gradient], ids=DEFINED)
def test_same_on_any_grid(product) -> None:
    with guarded() as memory:
        layer = Layer(SHAPES["unequal"], "fp32", memory)
        one, three, seven = (product(layer, programs=number) for number in (1, 3, 7))
    for other in (three, seven):
        pair = (each.data if isinstance(each, Arena) else each for each in (one, other))
        torch.testing.assert_close(*pair, rtol=0, atol=0, equal_nan=True)


def test_a_long_sum_is_split_and_added_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """More positions than a split holds; the second client's fill none of the later splits."""
    block = Block(16, 16, 16, 4, 1, chunk=64)
    monkeypatch.setitem(PRODUCTS, ("weight_gradient", 90, "fp32", "few_columns"), block)
    shape = Shape((3, 2), 5, [5, 1], [3, 2], [2, 1], 7, 5, 1, 1, 0)
    with guarded() as memory:
        layer = Layer(shape, "fp32", memory)
        assert tiles(layer, "weight_gradient").splits == 3
        expect_weights(layer, weight_gradient(layer))


def test_bits_do_not_depend_on_company() -> None:
    """A client alone, and among larger ones."""
    together, alone = SHAPES["unequal"], Shape((7, 5), 3, [1], [1], [1], 5, 4, 3, 1, 1)
    with guarded() as memory:
        many, one = Layer(together, "fp32", memory), Layer(alone, "fp32", memory)
        one.inputs, one.weights, one.bias = (each[2:3] for each in (many.inputs, many.weights, many.bias))
        one.scale = many.scale[2:3].clone()
        assert torch.equal(forward(one).client(0)[:1], forward(many).client(2)[:1])


def test_refuses() -> None:
    layer = Layer(SHAPES["linear"], "fp32", Memory())
    layer.precision = "half"
    with pytest.raises(ValueError, match=r"precision: got 'half', expected fp32 or tf32 or bf16"):
        forward(layer)
