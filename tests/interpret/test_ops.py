"""The public ops on dense tensors go through Triton's kernels, and back."""

import pytest
import torch

pytest.importorskip("triton")

from fedlps_kernels import grouped_conv2d, grouped_linear, unit_norm
from fedlps_kernels.grouped_conv2d import definition as conv
from fedlps_kernels.grouped_conv2d import packed
from fedlps_kernels.grouped_linear import definition as linear
from fedlps_kernels.unit_norm import definition as norm
from tests.kernels.grouped import counts_of, small_layers


@pytest.fixture(autouse=True)
def _poisoned():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def results(op, tensors, gradient, *counts, **window):
    """Outputs and all gradients."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    outputs = op(*leaves, *counts, **window)
    return [outputs, *torch.autograd.grad(outputs, leaves, gradient)]


def expect(op, defined, tensors, gradient, *counts, **window) -> None:
    """float32 by the op, against the definition in float64, zeros beyond the counts."""
    got = results(op, [tensor.float() for tensor in tensors], gradient.float(), *counts, **window)
    known = [tensor.float().double().nan_to_num(0.0) for tensor in tensors]
    wanted = results(defined, known, gradient.float().double().nan_to_num(0.0), *counts, **window)
    for each, want in zip(got, wanted, strict=True):
        torch.testing.assert_close(each.double(), want, rtol=2e-5, atol=2e-5)
        assert not each[want == 0].any(), "zeros beyond the counts"


def test_grouped_conv2d(monkeypatch) -> None:
    layers, calls = small_layers(), []
    for name in ("grouped_conv2d", "input_gradient", "weight_gradient"):
        real = getattr(packed, name)
        monkeypatch.setattr(packed, name, lambda *a, real=real, **named: calls.append(1) or real(*a, **named))
    tensors = layers.inputs(), layers.weights(), layers.bias()
    expect(grouped_conv2d, conv.grouped_conv2d, tensors, layers.gradient(), *layers.counts, **layers.window)
    assert len(calls) == 3


def test_grouped_linear() -> None:
    layers = small_layers(linear=True)
    tensors = layers.inputs(), layers.weights(), layers.bias()
    expect(grouped_linear, linear.grouped_linear, tensors, layers.gradient(), *layers.counts)


@pytest.mark.parametrize("maps", [(), (3, 5)])
def test_unit_norm(maps) -> None:
    generator = torch.Generator().manual_seed(0)
    samples, rows = counts_of([4, 0, 3], [3, 2, 1])
    shape = (3, 4, 3, *maps)
    inputs, gradient = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    scale, shift = (torch.randn(3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    expect(unit_norm, norm.unit_norm, (inputs, scale, shift), gradient, samples, rows)


def test_double_precision_stays_with_the_native_ops() -> None:
    layers = small_layers()
    given = layers.inputs(), layers.weights(), layers.bias(), *layers.counts
    torch.testing.assert_close(grouped_conv2d(*given, **layers.window), conv.grouped_conv2d(*given, **layers.window))
