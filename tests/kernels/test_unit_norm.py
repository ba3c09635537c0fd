"""unit_norm: native against the definition, the definition against torch and autograd, refusals."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, strategies

from fedlps_kernels import unit_norm
from fedlps_kernels.unit_norm import definition
from tests.kernels.compare import assert_same, refuses
from tests.kernels.grouped import counts_of

NAMES = ("outputs", "gradient of the inputs", "gradient of the scale", "gradient of the shift")
Tensors = list[torch.Tensor]


@dataclass(frozen=True)
class Norms:
    """A cohort's norms. room: for samples and rows; counts: how many of each a client has; maps: (), or H and W."""

    room: tuple[int, int]
    counts: tuple[torch.Tensor, ...]
    maps: tuple[int, ...]
    seed: int

    def tensors(self, dtype: torch.dtype = torch.float64) -> Tensors:
        """Inputs off their zero, scale, shift and the gradient of the outputs; NaN beyond the clients' counts."""
        generator = torch.Generator().manual_seed(self.seed)
        clients, (room, rows) = len(self.counts[0]), self.room
        shapes = (
            (clients, room, rows, *self.maps),
            (clients, rows),
            (clients, rows),
            (clients, room, rows, *self.maps),
        )
        drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
        drawn[0] += 3 * torch.randn(clients, 1, rows, *(1 for _ in self.maps), generator=generator, dtype=torch.float64)
        for client, (n, o) in enumerate(zip(*map(torch.Tensor.tolist, self.counts), strict=True)):
            for tensor in drawn:
                if tensor.dim() == 2:
                    tensor[client, o:] = torch.nan
                else:
                    tensor[client, n:] = torch.nan
                    tensor[client, :, o:] = torch.nan
        return [tensor.to(dtype) for tensor in drawn]


ROOM = strategies.sampled_from([1, 2, 3, 5, 13, 33, 70])


@strategies.composite
def norms(draw: strategies.DrawFn) -> Norms:
    room, seed = draw(strategies.tuples(ROOM, ROOM)), draw(strategies.integers(0, 2**32))
    generator, clients = torch.Generator().manual_seed(seed), draw(strategies.integers(0, 3))
    counts = tuple(torch.randint(0, most + 1, (clients,), generator=generator, dtype=torch.int32) for most in room)
    side = strategies.integers(1, 9)
    return Norms(room, counts, draw(strategies.one_of(strategies.just(()), strategies.tuples(side, side))), seed)


def small() -> Norms:
    """Three clients: all there is room for, less of everything, a single sample and unit."""
    return Norms((4, 3), counts_of([4, 3, 1], [3, 2, 1]), (2, 3), 0)


def results(forward, counts: Tensors, tensors: Tensors) -> Tensors:
    """Outputs and, from their gradient, those of inputs, scale and shift: by NAMES."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors[:3]]
    outputs = forward(*leaves, *counts)
    if not outputs.requires_grad:  # the definition's, of no clients
        return [outputs, *map(torch.zeros_like, leaves)]
    return [outputs.detach(), *torch.autograd.grad(outputs, leaves, tensors[3])]


def assert_close(got: Tensors, wanted: Tensors, tolerance: float) -> None:
    """To a fraction of the largest entry."""
    for name, each, want in zip(NAMES, got, wanted, strict=True):
        largest = float(want.abs().max()) if want.numel() else 0.0
        torch.testing.assert_close(
            each.double(), want, rtol=0, atol=tolerance * max(largest, 1), msg=lambda text, name=name: f"{name}: {text}"
        )


@given(case=norms())
def test_matches_definition(isa, case):
    tensors = case.tensors()
    wanted = results(definition.unit_norm, case.counts, tensors)
    assert_close(results(unit_norm, case.counts, tensors), wanted, 1e-12)


@given(case=norms())
def test_float32_is_no_worse_than_torch(isa, case):
    """Whole, against torch's own norm: at most twice its error, and some roundings."""
    room, rows = case.room
    whole = Norms(case.room, counts_of([room], [rows]), case.maps, case.seed)
    single = whole.tensors(torch.float32)
    exact = results(definition.unit_norm, whole.counts, [tensor.double() for tensor in single])
    torchs = results(torchs_norm, whole.counts, single)
    for name, got, own, want in zip(NAMES, results(unit_norm, whole.counts, single), torchs, exact, strict=True):
        allowed = 2 * (own - want).abs().max() + 8 * torch.finfo(torch.float32).eps * want.abs().max().clamp(min=1)
        error = (got - want).abs().max()
        assert error <= allowed, f"{name}: error {error:.3g}, torch allows {allowed:.3g}"


def torchs_norm(inputs, scale, shift, *_counts):
    """Of one client that has all there is room for."""
    return torch.batch_norm(inputs[0], scale[0], shift[0], None, None, True, 0.0, 1e-5, False)[None]


@pytest.mark.parametrize("maps", [(), (3, 5)])
def test_definition_is_torchs(maps):
    case = Norms((7, 4), counts_of([7], [4]), maps, 1)
    wanted = results(torchs_norm, case.counts, case.tensors())
    assert_close(results(definition.unit_norm, case.counts, case.tensors()), wanted, 1e-13)


def test_definition_by_hand():
    """One client of two samples and one unit, in room for one more of each: mean 2, variance 1."""
    inputs = torch.tensor([[[1.0, 9], [3, 9], [9, 9]]], dtype=torch.float64)
    scale, shift = torch.tensor([[10.0, 9]], dtype=torch.float64), torch.tensor([[0.5, 9]], dtype=torch.float64)
    outputs = definition.unit_norm(inputs, scale, shift, *counts_of([2], [1]))
    edge = 10 / 1.00001**0.5
    torch.testing.assert_close(outputs[0, :, 0].tolist(), [0.5 - edge, 0.5 + edge, 0.0])
    assert not outputs[0, :, 1].any()


@pytest.mark.parametrize("value", [0.1, -1e6])
def test_equal_values_give_exactly_the_shift(isa, dtype, value):
    case = Norms((33, 2), counts_of([33, 1], [2, 1]), (3, 1), 0)
    inputs, scale, shift, gradient = case.tensors(dtype)
    inputs = inputs.where(inputs.isnan(), value)
    got = results(unit_norm, case.counts, [inputs, scale, shift, gradient])
    assert torch.equal(got[0][0], shift[0].view(2, 1, 1).expand(33, 2, 3, 1))
    assert not got[2].any(), "nothing is learned by the scale"


def test_same_for_any_number_of_threads_and_for_a_client_alone(isa, dtype, threads):
    case = Norms((32, 97), counts_of([32, 20, 32, 7], [90, 97, 1, 50]), (12, 9), 0)
    tensors = case.tensors(dtype)
    together = [threads(lambda number=number: results(unit_norm, case.counts, tensors)[number]) for number in range(4)]
    for client in range(4):
        counts = [each[client : client + 1].clone() for each in case.counts]
        alone = results(unit_norm, counts, [tensor[client : client + 1].clone() for tensor in tensors])
        for name, each, want in zip(NAMES, alone, together, strict=True):
            assert_same(name, each, want[client : client + 1])


@pytest.mark.parametrize("forward", [unit_norm, definition.unit_norm])
def test_gradients(forward):
    case = small()
    leaves = [tensor.nan_to_num(0.5).requires_grad_() for tensor in case.tensors()[:3]]

    def call(*given: torch.Tensor) -> torch.Tensor:
        return forward(*given, *case.counts)

    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)


def test_definition_of_the_gradient_is_the_definitions_gradient():
    case = small()
    inputs, scale, shift, gradient = case.tensors()
    wanted = results(definition.unit_norm, case.counts, [inputs, scale, shift, gradient])
    outputs = definition.unit_norm(inputs, scale, shift, *case.counts)
    got = definition.gradient(inputs, gradient, scale, *case.counts)
    assert_close([outputs, *got], wanted, 1e-13)


def test_opcheck(dtype):
    case = small()
    inputs, scale, shift, gradient = (tensor.nan_to_num(0.5).requires_grad_() for tensor in case.tensors(dtype))
    torch.library.opcheck(torch.ops.fedlps.unit_norm.default, (inputs, scale, shift, *case.counts))
    torch.library.opcheck(torch.ops.fedlps.unit_norm_gradient.default, (inputs, gradient, scale, *case.counts))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"inputs": torch.zeros(2, 4)}, ValueError, "inputs: got shape (2, 4), expected (C, N, O)"),
        ({"inputs": torch.zeros(2, 4, 3).half()}, TypeError, "inputs: got dtype float16, expected float32 or float64"),
        ({"inputs": torch.zeros(2, 3, 4).mT}, ValueError, "inputs: got strides (12, 1, 4), expected a contiguous"),
        ({"scale": torch.zeros(2, 4)}, ValueError, "scale: got shape (2, 4), expected (C=2, O=3)"),
        ({"shift": torch.zeros(2, 3).double()}, TypeError, "shift: got dtype float64, expected float32"),
        ({"samples": counts_of([5, 1])[0]}, ValueError, "samples: got 5 for client 0, expected 0 <= count <= 4"),
        ({"rows": counts_of([3, -1])[0]}, ValueError, "rows: got -1 for client 1, expected 0 <= count <= 3"),
        ({"rows": counts_of([3])[0]}, ValueError, "rows: got shape (1,), expected (C=2)"),
    ],
)
def test_refuses(changes, error, text):
    samples, rows = counts_of([4, 1], [3, 0])
    arguments = {
        "inputs": torch.zeros(2, 4, 3),
        "scale": torch.zeros(2, 3),
        "shift": torch.zeros(2, 3),
        "samples": samples,
        "rows": rows,
    }
    unit_norm(**arguments)
    refuses(unit_norm, arguments, changes, error, text)
