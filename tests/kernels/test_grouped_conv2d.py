"""grouped_conv2d and its gradients: native against the definition, the definition against autograd, refusals."""

import pytest
import torch
from hypothesis import given

from fedlps_kernels import grouped_conv2d
from fedlps_kernels.grouped_conv2d import definition, input_gradient, weight_gradient
from tests.kernels.compare import assert_rounded, assert_same, refuses
from tests.kernels.grouped import Layers, counts_of, large_layers, layers, small_layers

NAMES = ("outputs", "outputs without bias", "gradient of the inputs", "gradient of the weights", "gradient of the bias")


def results(ops, case: Layers, dtype: torch.dtype, inputs, weights, bias, gradient) -> list[torch.Tensor]:
    """What (forward, input gradient, weight gradient) say, by NAMES."""
    forward, to_inputs, to_weights = ops
    images, kernels, added, behind = (tensor.to(dtype) for tensor in (inputs, weights, bias, gradient))
    sizes = {"height": case.height, "width": case.width}
    return [
        forward(images, kernels, added, *case.counts, **case.window),
        forward(images, kernels, None, *case.counts, **case.window),
        to_inputs(behind, kernels, *case.counts, **sizes, **case.window),
        *to_weights(images, behind, *case.counts, kernel=case.kernel, **case.window),
    ]


OPS = grouped_conv2d, input_gradient, weight_gradient
DEFINITIONS = definition.grouped_conv2d, definition.input_gradient, definition.weight_gradient


def assert_agree(got: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    for name, each, want in zip(NAMES, got, wanted, strict=True):
        torch.testing.assert_close(each, want, rtol=1e-12, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


@given(case=layers(linear=False))
def test_matches_definition(isa, case):
    tensors = case.inputs(), case.weights(), case.bias(), case.gradient()
    wanted = results(DEFINITIONS, case, torch.float64, *tensors)
    assert_agree(results(OPS, case, torch.float64, *tensors), wanted)


@given(case=layers(linear=False))
def test_float32_rounds_as_little_as_it_must(isa, case):
    tensors = [tensor.float() for tensor in (case.inputs(), case.weights(), case.bias(), case.gradient())]
    exact = results(DEFINITIONS, case, torch.float64, *tensors)
    magnitudes = results(DEFINITIONS, case, torch.float64, *(tensor.abs() for tensor in tensors))
    (samples, columns, rows), area = case.room, case.kernel**2
    positions = samples * tensors[3][0, 0, 0].numel() if case.clients else 1
    terms = columns * area + 1, columns * area, rows * area, positions, positions
    got = results(OPS, case, torch.float32, *tensors)
    for name, *numbers in zip(NAMES, got, exact, magnitudes, terms, strict=True):
        assert_rounded(name, *numbers)


def test_definition_by_hand():
    """One client of one sample, column and row in room for two of each: 3 x 3 ones of weight 2 and bias 1."""
    inputs, weights, bias = torch.ones(1, 2, 2, 3, 3), torch.full((1, 2, 2, 2, 2), 2.0), torch.ones(1, 2)
    inputs[0, 0, 0, 2, 2] = 5
    outputs = definition.grouped_conv2d(inputs, weights, bias, *counts_of([1], [1], [1]), stride=2, padding=1)
    assert outputs[0, 0, 0].tolist() == [[3, 5], [5, 17]]
    assert outputs.sum() == 30


@given(case=layers(linear=False))
def test_definition_is_autograds(case):
    """Also of the gradients, against torch's own, client by client."""
    inputs, weights, bias, gradient = case.inputs(), case.weights(), case.bias(), case.gradient()
    got = results(DEFINITIONS, case, torch.float64, inputs, weights, bias, gradient)
    wanted = [torch.zeros_like(each) for each in got]
    for client, (n, i, o) in enumerate(torch.stack(case.counts, dim=1).tolist()):
        if n * i * o == 0:
            if n * o:
                wanted[0][client, :n, :o] = bias[client, :o, None, None]
                wanted[4][client, :o] = gradient[client, :n, :o].sum(dim=(0, 2, 3))
            continue
        parts = inputs[client, :n, :i], weights[client, :o, :i], bias[client, :o]
        leaves = [part.clone().requires_grad_() for part in parts]
        outputs = torch.nn.functional.conv2d(*leaves, **case.window)
        gradients = torch.autograd.grad(outputs, leaves, gradient[client, :n, :o])
        plain = torch.nn.functional.conv2d(*parts[:2], **case.window)
        places = (n, o), (n, o), (n, i), (o, i), (o,)
        for want, place, value in zip(wanted, places, (outputs.detach(), plain, *gradients), strict=True):
            want[client][tuple(map(slice, place))] = value
    assert_agree(got, wanted)


def test_same_for_any_number_of_threads_and_for_a_client_alone(isa, dtype, threads):
    case = large_layers()
    inputs, weights, bias, gradient = case.inputs(dtype), case.weights(dtype), case.bias(dtype), case.gradient(dtype)
    sizes = {"height": case.height, "width": case.width}
    outputs = threads(grouped_conv2d, inputs, weights, bias, *case.counts, **case.window)
    to_inputs = threads(input_gradient, gradient, weights, *case.counts, **sizes, **case.window)
    to_weights = threads(lambda *a: weight_gradient(*a, kernel=3, **case.window)[0], inputs, gradient, *case.counts)
    for client in range(case.clients):
        one = [case.alone(client, tensor) for tensor in (inputs, weights, bias, gradient, *case.counts)]
        got = grouped_conv2d(*one[:3], *one[4:], **case.window)
        assert_same("outputs", got, case.alone(client, outputs))
        got = input_gradient(one[3], one[1], *one[4:], **sizes, **case.window)
        assert_same("gradient of the inputs", got, case.alone(client, to_inputs))
        got, _ = weight_gradient(one[0], one[3], *one[4:], kernel=3, **case.window)
        assert_same("gradient of the weights", got, case.alone(client, to_weights))


@pytest.mark.parametrize("forward", [grouped_conv2d, definition.grouped_conv2d])
def test_gradients(forward):
    case = small_layers()
    tensors = [tensor.nan_to_num(0.5).requires_grad_() for tensor in (case.inputs(), case.weights(), case.bias())]

    def call(inputs: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return forward(inputs, weights, bias, *case.counts, **case.window)

    assert torch.autograd.gradcheck(call, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True)


def test_only_the_wanted_gradients():
    case = small_layers()
    bias = case.bias().requires_grad_()
    outputs = grouped_conv2d(case.inputs(), case.weights(), bias, *case.counts, **case.window)
    (gradient,) = torch.autograd.grad(outputs.sum(), bias)
    assert gradient[2].tolist() == [9, 0, 0, 0, 0]  # one sample of 3 x 3 positions


def test_opcheck(dtype):
    case = small_layers()
    inputs, weights, bias, gradient = (
        tensor.nan_to_num(0.5).requires_grad_()
        for tensor in (case.inputs(dtype), case.weights(dtype), case.bias(dtype), case.gradient(dtype))
    )
    ops = torch.ops.fedlps
    for added in (bias, None):
        torch.library.opcheck(ops.grouped_conv2d.default, (inputs, weights, added, *case.counts, 2, 1))
    torch.library.opcheck(ops.grouped_conv2d_input_gradient.default, (gradient, weights, *case.counts, 5, 6, 2, 1))
    torch.library.opcheck(ops.grouped_conv2d_weight_gradient.default, (inputs, gradient, *case.counts, 3, 2, 1))


@pytest.mark.parametrize(("kernel", "stride"), [(32, 32), (33, 1), (2, 33)])
def test_the_largest_kernel_and_stride(isa, kernel, stride):
    """Beyond, the definition serves."""
    counts = counts_of([2, 1], [1, 2], [2, 1])
    case = Layers((2, 2, 2), counts, torch.Generator().manual_seed(0), 36, 35, kernel, stride, padding=2)
    tensors = case.inputs(), case.weights(), case.bias(), case.gradient()
    wanted = results(DEFINITIONS, case, torch.float64, *tensors)
    assert_agree(results(OPS, case, torch.float64, *tensors), wanted)


COUNTS = dict(zip(("samples", "columns", "rows"), counts_of([4, 1], [3, 3], [2, 0]), strict=True))
REFUSED_COUNTS = [
    ({"samples": COUNTS["samples"].long()}, TypeError, "samples: got dtype int64, expected int32"),
    ({"samples": counts_of([5, 1])[0]}, ValueError, "samples: got 5 for client 0, expected 0 <= count <= 4"),
    ({"columns": counts_of([3, -1])[0]}, ValueError, "columns: got -1 for client 1, expected 0 <= count <= 3"),
    ({"rows": counts_of([3, 2])[0]}, ValueError, "rows: got 3 for client 0, expected 0 <= count <= 2"),
    ({"rows": COUNTS["rows"][:1].clone()}, ValueError, "rows: got shape (1,), expected (C=2)"),
]
REFUSED_WINDOWS = [
    ({"stride": 0}, ValueError, "stride: got 0, expected at least 1"),
    ({"padding": -1}, ValueError, "padding: got -1, expected at least 0"),
]


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        *REFUSED_COUNTS,
        *REFUSED_WINDOWS,
        ({"inputs": torch.zeros(2, 4, 3, 5)}, ValueError, "inputs: got shape (2, 4, 3, 5), expected (C, N, I, H, W)"),
        ({"inputs": torch.zeros(2, 4, 3, 5, 5).half()}, TypeError, "inputs: got dtype float16, expected float32 or"),
        ({"inputs": torch.zeros(2, 4, 3, 5, 5).mT}, ValueError, "inputs: got strides (300, 75, 25, 1, 5), expected a"),
        (
            {"inputs": torch.zeros(2, 4, 3, 5, 2)},
            ValueError,
            "inputs: got maps of 5 x 2, expected at least 3 x 3 for a kernel of 3 with padding 0",
        ),
        ({"weights": torch.zeros(2, 2, 4, 3, 3)}, ValueError, "expected (C=2, O, I=3, K, K')"),
        ({"weights": torch.zeros(2, 2, 3, 3, 4)}, ValueError, "weights: got kernels of 3 x 4, expected square ones"),
        ({"weights": torch.zeros(2, 2, 3, 0, 0)}, ValueError, "kernel: got 0, expected at least 1"),
        ({"weights": torch.zeros(2, 2, 3, 3, 3).double()}, TypeError, "weights: got dtype float64, expected float32"),
        ({"bias": torch.zeros(2, 3)}, ValueError, "bias: got shape (2, 3), expected (C=2, O=2)"),
    ],
)
def test_refuses(changes, error, text):
    arguments = {
        "inputs": torch.zeros(2, 4, 3, 5, 5),
        "weights": torch.zeros(2, 2, 3, 3, 3),
        "bias": torch.zeros(2, 2),
        **COUNTS,
    }
    grouped_conv2d(**arguments)
    refuses(grouped_conv2d, arguments, changes, error, text)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        *REFUSED_COUNTS,
        *REFUSED_WINDOWS,
        ({"height": 0}, ValueError, "inputs: got maps of 0 x 5, expected at least 3 x 3 for a kernel of 3"),
        ({"height": 6}, ValueError, "gradient: got shape (2, 4, 2, 3, 3), expected (C=2, N, O=2, Y=4, X=3)"),
        ({"weights": torch.zeros(2, 2, 3, 2, 3)}, ValueError, "weights: got kernels of 2 x 3, expected square ones"),
    ],
)
def test_input_gradient_refuses(changes, error, text):
    arguments = {
        "gradient": torch.zeros(2, 4, 2, 3, 3),
        "weights": torch.zeros(2, 2, 3, 3, 3),
        **COUNTS,
        "height": 5,
        "width": 5,
    }
    input_gradient(**arguments)
    refuses(input_gradient, arguments, changes, error, text)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        *REFUSED_COUNTS,
        *REFUSED_WINDOWS,
        ({"kernel": 0}, ValueError, "kernel: got 0, expected at least 1"),
        ({"kernel": 4}, ValueError, "gradient: got shape (2, 4, 2, 3, 3), expected (C=2, N=4, O, Y=2, X=2)"),
        ({"gradient": torch.zeros(2, 4, 2, 3, 3).double()}, TypeError, "gradient: got dtype float64, expected float32"),
    ],
)
def test_weight_gradient_refuses(changes, error, text):
    arguments = {
        "inputs": torch.zeros(2, 4, 3, 5, 5),
        "gradient": torch.zeros(2, 4, 2, 3, 3),
        **COUNTS,
        "kernel": 3,
    }
    weight_gradient(**arguments)
    refuses(weight_gradient, arguments, changes, error, text)
