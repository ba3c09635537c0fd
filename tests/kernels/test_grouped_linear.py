"""grouped_linear: native against the definition, the definition against autograd, refusals."""

import pytest
import torch
from hypothesis import given

from fedlps_kernels import grouped_linear
from fedlps_kernels.grouped_linear import definition
from tests.kernels.compare import assert_rounded, assert_same, refuses
from tests.kernels.grouped import Layers, counts_of, large_layers, layers, small_layers

NAMES = ("outputs", "gradient of the inputs", "gradient of the weights", "gradient of the bias")


def results(forward, case: Layers, dtype: torch.dtype, inputs, weights, bias, gradient) -> list[torch.Tensor]:
    """Outputs and, from their gradient, those of inputs, weights and bias: by NAMES."""
    leaves = [tensor.to(dtype).requires_grad_() for tensor in (inputs, weights, bias)]
    outputs = forward(*leaves, *case.counts)
    if not outputs.requires_grad:  # the definition's, of no clients
        return [outputs, *map(torch.zeros_like, leaves)]
    return [outputs.detach(), *torch.autograd.grad(outputs, leaves, gradient.to(dtype))]


def tensors_of(case: Layers, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return [tensor.to(dtype) for tensor in (case.inputs(), case.weights(), case.bias(), case.gradient())]


def assert_agree(got: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    for name, each, want in zip(NAMES, got, wanted, strict=True):
        torch.testing.assert_close(each, want, rtol=1e-12, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


@given(case=layers(linear=True))
def test_matches_definition(isa, case):
    tensors = tensors_of(case)
    wanted = results(definition.grouped_linear, case, torch.float64, *tensors)
    assert_agree(results(grouped_linear, case, torch.float64, *tensors), wanted)
    plain = grouped_linear(*tensors[:2], None, *case.counts)
    want = definition.grouped_linear(*tensors[:2], None, *case.counts)
    torch.testing.assert_close(plain, want, rtol=1e-12, atol=1e-12)


@given(case=layers(linear=True))
def test_float32_rounds_as_little_as_it_must(isa, case):
    tensors = tensors_of(case, torch.float32)
    exact = results(definition.grouped_linear, case, torch.float64, *tensors)
    magnitudes = results(definition.grouped_linear, case, torch.float64, *(tensor.abs() for tensor in tensors))
    samples, columns, rows = case.room
    terms = columns + 1, rows, samples, samples
    got = results(grouped_linear, case, torch.float32, *tensors)
    for name, *numbers in zip(NAMES, got, exact, magnitudes, terms, strict=True):
        assert_rounded(name, *numbers)


def test_definition_by_hand():
    """One client of two samples, two columns and one row, in room for one more of each."""
    inputs = torch.tensor([[[1.0, 2, 9], [3, 4, 9], [9, 9, 9]]])
    weights, bias = torch.tensor([[[10.0, 1, 9], [9, 9, 9]]]), torch.tensor([[0.5, 9]])
    outputs = definition.grouped_linear(inputs, weights, bias, *counts_of([2], [2], [1]))
    assert outputs.tolist() == [[[12.5, 0], [34.5, 0], [0, 0]]]


def test_same_for_any_number_of_threads_and_for_a_client_alone(isa, dtype, threads):
    case = large_layers(linear=True)
    tensors = tensors_of(case, dtype)
    together = [
        threads(lambda number=number: results(grouped_linear, case, dtype, *tensors)[number]) for number in range(4)
    ]
    for client in range(case.clients):
        alone = Layers(case.room, tuple(case.alone(client, each) for each in case.counts), case.generator, linear=True)
        got = results(grouped_linear, alone, dtype, *(case.alone(client, tensor) for tensor in tensors))
        for name, each, want in zip(NAMES, got, together, strict=True):
            assert_same(name, each, case.alone(client, want))


@pytest.mark.parametrize("forward", [grouped_linear, definition.grouped_linear])
def test_gradients(forward):
    case = small_layers(linear=True)
    leaves = [tensor.nan_to_num(0.5).requires_grad_() for tensor in tensors_of(case)[:3]]

    def call(inputs: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return forward(inputs, weights, bias, *case.counts)

    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)


def test_opcheck(dtype):
    case = small_layers(linear=True)
    inputs, weights, bias, _ = (tensor.nan_to_num(0.5).requires_grad_() for tensor in tensors_of(case, dtype))
    for added in (bias, None):
        torch.library.opcheck(torch.ops.fedlps.grouped_linear.default, (inputs, weights, added, *case.counts))


COUNTS = dict(zip(("samples", "columns", "rows"), counts_of([4, 1], [3, 3], [2, 0]), strict=True))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"inputs": torch.zeros(2, 4)}, ValueError, "inputs: got shape (2, 4), expected (C, N, I)"),
        ({"inputs": torch.zeros(2, 4, 3).half()}, TypeError, "inputs: got dtype float16, expected float32 or float64"),
        ({"inputs": torch.zeros(2, 3, 4).mT}, ValueError, "inputs: got strides (12, 1, 4), expected a contiguous"),
        ({"weights": torch.zeros(2, 2, 4)}, ValueError, "weights: got shape (2, 2, 4), expected (C=2, O, I=3)"),
        ({"weights": torch.zeros(2, 2, 3).double()}, TypeError, "weights: got dtype float64, expected float32"),
        ({"bias": torch.zeros(2, 3)}, ValueError, "bias: got shape (2, 3), expected (C=2, O=2)"),
        ({"samples": COUNTS["samples"].long()}, TypeError, "samples: got dtype int64, expected int32"),
        ({"samples": counts_of([5, 1])[0]}, ValueError, "samples: got 5 for client 0, expected 0 <= count <= 4"),
        ({"columns": counts_of([3, -1])[0]}, ValueError, "columns: got -1 for client 1, expected 0 <= count <= 3"),
        ({"rows": counts_of([3, 2])[0]}, ValueError, "rows: got 3 for client 0, expected 0 <= count <= 2"),
        ({"rows": COUNTS["rows"][:1].clone()}, ValueError, "rows: got shape (1,), expected (C=2)"),
    ],
)
def test_refuses(changes, error, text):
    arguments = {
        "inputs": torch.zeros(2, 4, 3),
        "weights": torch.zeros(2, 2, 3),
        "bias": torch.zeros(2, 2),
        **COUNTS,
    }
    grouped_linear(**arguments)
    refuses(grouped_linear, arguments, changes, error, text)
