"""The loss of unequal clients and its gradient, against the definition in float64."""

import pytest
import torch

pytest.importorskip("triton")

from fedlps_kernels.softmax_loss import definition
from fedlps_kernels.softmax_loss import triton as loss
from fedlps_kernels.tuning import PRECISIONS, Precision
from tests.interpret.layer import Layer, Shape
from tests.interpret.memory import Memory, guarded

SHAPES = {
    "few": Shape((3, 1), 5, [5, 0, 1], [3, 3, 3], [1, 1, 1]),
    "blocks": Shape((300, 1), 20, [20, 9], [300, 300], [1, 1]),
    "one": Shape((1, 1), 2, [2], [1], [1]),
}


def results(layer: Layer, memory: Memory, programs: int | None = None, teacher: torch.Tensor | None = None):
    shape = layer.shape
    labels = torch.randint(shape.most[0], (len(shape.rows), shape.room), generator=torch.Generator().manual_seed(3))
    logits = layer.arena(layer.rows, (1, 1), layer.gradient)
    gradient, losses = layer.arena(layer.rows, (1, 1)), memory.nans(len(shape.rows))
    hits = memory.place(torch.full((len(shape.rows),), -7, dtype=torch.int32))
    given = logits, memory.place(labels.int()), layer.samples, shape.most[0], losses, hits, gradient
    taught = None if teacher is None else layer.arena(layer.rows, (1, 1), teacher)
    loss.forward_backward(*given, taught, precision=layer.precision, programs=programs)
    return labels, losses, hits, gradient


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_matches_definition(shape: Shape, precision: Precision) -> None:
    with guarded() as memory:
        layer = Layer(shape, precision, memory)
        layer.gradient[0, 0] = layer.gradient[0, 0].round()  # ties, also for the largest
        labels, losses, hits, gradient = results(layer, memory)
        wanted = definition.softmax_loss(layer.gradient[..., 0, 0], labels, layer.samples)
        torch.testing.assert_close(losses.double(), wanted[0], rtol=1e-6, atol=1e-6)
        assert torch.equal(hits, wanted[1])
        layer.expect(gradient, wanted[2][..., None, None])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_another_models_outputs_teach(shape: Shape, precision: Precision) -> None:
    """Hits are still those of the labels."""
    with guarded() as memory:
        layer = Layer(shape, precision, memory)
        teacher = 2 * layer.gradient.flip(1)
        labels, losses, hits, gradient = results(layer, memory, teacher=teacher)
        given = layer.gradient[..., 0, 0], labels, layer.samples
        wanted = definition.softmax_loss(*given, teacher[..., 0, 0])
        torch.testing.assert_close(losses.double(), wanted[0], rtol=1e-6, atol=1e-6)
        assert torch.equal(hits, wanted[1])
        layer.expect(gradient, wanted[2][..., None, None])


def test_same_on_any_grid() -> None:
    with guarded() as memory:
        layer = Layer(SHAPES["blocks"], "fp32", memory)
        one, three, seven = (results(layer, memory, programs) for programs in (1, 3, 7))
    for other in (three, seven):
        assert all(torch.equal(got, want) for got, want in zip(other[1:3], one[1:3], strict=True))
        torch.testing.assert_close(other[3].data, one[3].data, rtol=0, atol=0, equal_nan=True)


def test_without_a_gradient_and_ties_to_the_lower_class() -> None:
    with guarded() as memory:
        layer = Layer(SHAPES["few"], "fp32", memory)
        logits = layer.arena(layer.rows, (1, 1), torch.zeros_like(layer.gradient))
        labels = torch.tensor([[0, 1, 0, 2, 0]] * 3, dtype=torch.int32)
        losses, hits = torch.empty(3), torch.empty(3, dtype=torch.int32)
        loss.forward_backward(logits, labels, layer.samples, 3, losses, hits, precision="fp32")
    assert hits.tolist() == [3, 0, 1]
    torch.testing.assert_close(losses, torch.tensor([3.0, 1.0, 3.0]).log())
