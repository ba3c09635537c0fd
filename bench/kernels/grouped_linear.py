"""grouped_linear and its gradients: python -m pytest -s bench/kernels/grouped_linear.py; on a GPU with -m gpu"""

import pytest
import torch

from bench.kernels.device import report
from bench.kernels.layers import LINEARS
from bench.kernels.measure import compare
from bench.kernels.mixes import cases, of
from bench.kernels.products import DIRECTIONS, product
from fedlps_kernels import grouped_linear
from fedlps_kernels.grouped_linear import definition


@pytest.mark.parametrize("shape", LINEARS)
def test_forward(benchmark, shape):
    layer = LINEARS[shape]
    inputs, weights, _ = (tensor.flatten(3).squeeze(3) for tensor in layer.tensors())
    features, matrices, _ = layer.parts(inputs, weights, inputs)
    alternatives = {
        "op": lambda: grouped_linear(inputs, weights, None, *layer.counts),
        "torch, parts given": lambda: list(map(torch.nn.functional.linear, features, matrices)),
        "definition": lambda: definition.grouped_linear(inputs, weights, None, *layer.counts),
    }
    layer.check(alternatives)
    compare(benchmark, alternatives, operations=layer.operations)


@pytest.mark.parametrize("shape", LINEARS)
def test_both_gradients(benchmark, shape):
    layer = LINEARS[shape]
    inputs, weights, gradient = (tensor.flatten(3).squeeze(3) for tensor in layer.tensors())
    parts = list(zip(*layer.parts(inputs, weights, gradient), strict=True))
    leaves = inputs.requires_grad_(), weights.requires_grad_()
    outputs = {
        "op": grouped_linear(*leaves, None, *layer.counts),
        "definition": definition.grouped_linear(*leaves, None, *layer.counts),
    }

    def by_autograd(name: str) -> torch.Tensor:
        to_inputs, to_weights = torch.autograd.grad(outputs[name], leaves, gradient, retain_graph=True)
        return torch.cat([to_inputs.flatten(), to_weights.flatten()])

    alternatives = {
        "op": lambda: by_autograd("op"),
        "torch, parts given": lambda: [(behind @ matrix, behind.T @ batch) for batch, matrix, behind in parts],
        "definition": lambda: by_autograd("definition"),
    }
    layer.check(alternatives)
    compare(benchmark, alternatives, operations=2 * layer.operations)


@pytest.mark.gpu
@pytest.mark.parametrize(("clients", "mix", "precision"), cases())
def test_layers_on_a_gpu(gpu, benchmark, clients, mix, precision):
    wanted = {name: of(layer, mix, clients) for name, layer in LINEARS.items()}
    found = [
        product(f"{name}, {direction}", layer, direction, gpu, precision)
        for name, layer in wanted.items()
        for direction in DIRECTIONS
    ]
    report(benchmark, found, op="grouped_linear", clients=clients, mix=mix)
