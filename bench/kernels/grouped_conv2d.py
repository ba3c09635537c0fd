"""grouped_conv2d and its gradients: python -m pytest -s bench/kernels/grouped_conv2d.py; on a GPU with -m gpu"""

import pytest
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_input, conv2d_weight

from bench.kernels.device import report
from bench.kernels.layers import CONVOLUTIONS
from bench.kernels.measure import compare
from bench.kernels.mixes import VGG11, cases, of
from bench.kernels.products import DIRECTIONS, product
from fedlps_kernels import grouped_conv2d
from fedlps_kernels.grouped_conv2d import definition, input_gradient, weight_gradient


@pytest.mark.parametrize("direction", ["forward", "input gradient", "weight gradient"])
@pytest.mark.parametrize("shape", CONVOLUTIONS)
def test_grouped_conv2d(benchmark, shape, direction):
    layer = CONVOLUTIONS[shape]
    inputs, weights, gradient = layer.tensors()
    images, kernels, behind = layer.parts(inputs, weights, gradient)
    counts, padding = layer.counts, layer.padding
    sizes = {"height": layer.size, "width": layer.size, "stride": 1, "padding": padding}
    window = {"kernel": layer.kernel, "stride": 1, "padding": padding}

    def each(call, *parts):
        """torch, one client after another."""
        return [call(*given, padding=padding) for given in zip(*parts, strict=True)]

    alternatives = {
        "forward": {
            "op": lambda: grouped_conv2d(inputs, weights, None, *counts, padding=padding),
            "torch, parts given": lambda: each(conv2d, images, kernels),
            "definition": lambda: definition.grouped_conv2d(inputs, weights, None, *counts, padding=padding),
        },
        "input gradient": {
            "op": lambda: input_gradient(gradient, weights, *counts, **sizes),
            "torch, parts given": lambda: each(conv2d_input, [image.shape for image in images], kernels, behind),
            "definition": lambda: definition.input_gradient(gradient, weights, *counts, **sizes),
        },
        "weight gradient": {
            "op": lambda: weight_gradient(inputs, gradient, *counts, **window)[0],
            "torch, parts given": lambda: each(conv2d_weight, images, [kernel.shape for kernel in kernels], behind),
            "definition": lambda: definition.weight_gradient(inputs, gradient, *counts, **window)[0],
        },
    }[direction]
    layer.check(alternatives)
    compare(benchmark, alternatives, operations=layer.operations)


@pytest.mark.gpu
@pytest.mark.parametrize(("clients", "mix", "precision"), cases())
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_vgg11_on_a_gpu(gpu, benchmark, direction, clients, mix, precision):
    wanted = {name: of(layer, mix, clients) for name, layer in VGG11.items()}
    if direction == "input gradient":  # nobody asks for that of the sample
        wanted = {name: layer for name, layer in wanted.items() if not layer.all_columns}
    found = [product(name, layer, direction, gpu, precision) for name, layer in wanted.items()]
    report(benchmark, found, op="grouped_conv2d", direction=direction, clients=clients, mix=mix)
