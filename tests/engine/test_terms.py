"""Terms of the plan that only some methods use, against the same steps written out by hand in float64."""

from itertools import pairwise

import numpy
import torch
from torch import nn

from fedlps.engine.plan import Hold, Job, Plan, Segment
from fedlps.models import chain
from fedlps.program import initial_parameters
from tests.engine.cases import cohort_of, executor_of, first_units, samples
from tests.engine.dense import backward

SHAPE = (1, 2, 2)
STEPS = [["flatten"], ["linear", 5], ["relu"], ["linear", 3]]
BATCHES = [[0, 1, 2], [3, 4, 5], [6]]
SIZES = numpy.cumsum([0, 20, 5, 15, 3])


def trained(**terms):
    """A client of three of five units: its result and the parameters it started from."""
    data = samples(SHAPE, 3, 7)
    program, executor = executor_of(chain(SHAPE, STEPS), SHAPE, data)
    start = initial_parameters(program, 0)
    job = Job(0, Hold((3,), first_units(program, (3,))), (Segment(0.2, weight_decay=0.01),), **terms)
    probes = frozenset({"parameters", "squared_losses", "losses"})
    return data, start, executor.train(torch.from_numpy(start), Plan((job,), probes), cohort_of(BATCHES))


def test_group_lasso() -> None:
    """The norm of a unit is over its kept weights and its bias; the output layer's rows have none."""
    data, start, result = trained(penalty=0.1)
    flat = start.copy()
    gates = [numpy.array([1.0, 1, 1, 0, 0]), numpy.ones(3)]
    for batch in BATCHES:
        pieces = [flat[first:last] for first, last in pairwise(SIZES)]
        weights, biases = [pieces[0].reshape(5, 4), pieces[2].reshape(3, 5)], [pieces[1], pieces[3]]
        _, _, gradients = backward(STEPS, weights, biases, gates, data.inputs[batch], data.labels[batch])
        for unit in range(3):
            length = numpy.sqrt((weights[0][unit] ** 2).sum() + biases[0][unit] ** 2)
            gradients[0][unit] += 0.1 * weights[0][unit] / length
            gradients[1][unit] += 0.1 * biases[0][unit] / length
        held = [gates[0][:, None] * numpy.ones((5, 4)), gates[0], gates[0] * numpy.ones((3, 5)), gates[1]]
        for tensor, gradient, mask in zip([weights[0], biases[0], weights[1], biases[1]], gradients, held, strict=True):
            tensor -= 0.2 * mask * (gradient + 0.01 * tensor)
    numpy.testing.assert_allclose(result.probes["parameters"][0], flat, rtol=1e-12, atol=1e-12)
    assert not numpy.allclose(trained()[2].probes["parameters"][0], flat, atol=1e-3)


def test_direction_of_a_unit() -> None:
    """A unit (3, 4), weight and bias, under 0.1: it moves by (0.06, 0.08) where the task asks for nothing."""
    shape = (1, 1, 1)
    module = chain(shape, [["flatten"], ["linear", 1], ["linear", 2]])
    program, executor = executor_of(module, shape, samples(shape, 1, 1))
    start = torch.tensor([3.0, 4, 0, 0, 900, -900], dtype=torch.float64)
    job = Job(0, Hold((1,), first_units(program, (1,))), (Segment(1.0),), penalty=0.1)
    result = executor.train(start, Plan((job,), frozenset({"parameters"})), cohort_of([[0]]))
    moved = start - result.probes["parameters"][0]
    numpy.testing.assert_allclose(moved[:2], [0.06, 0.08], rtol=1e-12)


def test_squared_losses() -> None:
    """Per step the sum of squared losses of its samples, with the parameters of before the step."""
    data, start, result = trained()
    squares = result.probes["squared_losses"][0]
    assert len(squares) == 3
    pieces = [start[first:last] for first, last in pairwise(SIZES)]
    weights, biases = [pieces[0].reshape(5, 4), pieces[2].reshape(3, 5)], [pieces[1], pieces[3]]
    gates = [numpy.array([1.0, 1, 1, 0, 0]), numpy.ones(3)]
    own = [backward(STEPS, weights, biases, gates, data.inputs[[i]], data.labels[[i]])[0] for i in BATCHES[0]]
    numpy.testing.assert_allclose(squares[0], sum(loss**2 for loss in own), rtol=1e-12)
    numpy.testing.assert_allclose(squares[2], result.probes["losses"][0][2] ** 2, rtol=1e-12)


class Exits(nn.Module):
    """Three exits, of a layer each."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.heads = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 3)])

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        inputs = torch.flatten(inputs, 1)
        first = torch.relu(self.layers[0](inputs))
        second = torch.relu(self.layers[1](first))
        return self.heads[0](inputs), self.heads[1](first), self.heads[2](second)


def test_exits_up_to_a_depth_learn_from_each_other() -> None:
    """The gradient of the softmax outputs by hand: p_i - y, and of KL(p_j || p_i) to exit i p_i - p_j."""
    data = samples(SHAPE, 3, 7)
    module = Exits().double()
    program, executor = executor_of(module, SHAPE, data)
    start = nn.utils.parameters_to_vector(module.parameters()).detach()
    for depth in (1, 2, 3):
        units = torch.cat([torch.arange(group.units, dtype=torch.int32) for group in program.groups])
        hold = Hold(tuple(group.units for group in program.groups), units, depth=depth)
        job = Job(0, hold, (Segment(0.5),), mutual=0.7)
        result = executor.train(start, Plan((job,), frozenset({"parameters"})), cohort_of([[0, 1, 2, 3]]))
        inputs, labels = data.batch([0, 1, 2, 3])
        reference = Exits().double()
        nn.utils.vector_to_parameters(start.clone(), reference.parameters())
        outputs = reference(torch.from_numpy(inputs))[:depth]
        shares = [output.detach().softmax(1) for output in outputs]
        wanted = nn.functional.one_hot(torch.from_numpy(labels), 3)
        for number, output in enumerate(outputs):
            others = [shares[number] - share for place, share in enumerate(shares) if place != number]
            pull = 0.7 * sum(others) / len(others) if others else 0
            output.backward((shares[number] - wanted + pull) / 4, retain_graph=True)
        moved = [
            values.detach() - 0.5 * (0 if values.grad is None else values.grad) for values in reference.parameters()
        ]
        want = nn.utils.parameters_to_vector(moved)
        torch.testing.assert_close(result.probes["parameters"][0], want, rtol=1e-12, atol=1e-12)
        assert (want != start).any()
