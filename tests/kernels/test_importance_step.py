"""importance_step: native against the definition, its own exp against decimal arithmetic, gradient."""

from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlps_kernels import importance_step
from fedlps_kernels.importance_step import definition
from tests.kernels.cases import cases, large_case, small_case
from tests.kernels.compare import assert_no_worse_than_torch, assert_same, refuses

STEP = {"lr": 0.1, "lam": 1.0, "kappa": 0.3}


def drawn(case, dtype):
    """Redundancies in [0, 1], unit sums as wide layers have them, task gradients."""
    shape = case.clients, case.layout.units
    redundancy, sums = case.values(*shape).sigmoid(), 30 * case.values(*shape).abs()
    return redundancy.to(dtype), sums.to(dtype), case.values(*shape, dtype=dtype), case.layout.groups


@given(case=cases(), reduction=st.sampled_from(["mean", "sum"]), kappa=st.sampled_from([0.0, 1.0]))
def test_native_is_no_worse_than_torch(isa, case, reduction, kappa):
    inputs = drawn(case, torch.float32)
    step = {"lr": 0.1, "lam": 0.7, "kappa": kappa, "reduction": reduction}
    exact = definition.importance_step(*(tensor.double() for tensor in inputs[:3]), inputs[3], **step)
    torchs = definition.importance_step(*inputs, **step)
    assert_no_worse_than_torch("stepped", importance_step(*inputs, **step), torchs, exact)


@given(case=cases(), reduction=st.sampled_from(["mean", "sum"]))
def test_native_matches_definition_in_float64(isa, case, reduction):
    inputs = drawn(case, torch.float64)
    got = importance_step(*inputs, **STEP, reduction=reduction)
    want = definition.importance_step(*inputs, **STEP, reduction=reduction)
    # each of the six operations and both sigmoids round: terms are at most 1 + 2 * 0.1 + 0.03 |t|
    bound = 8 * torch.finfo(torch.float64).eps * (2 + inputs[2].abs())
    assert ((got - want).abs() <= bound).all()


def test_definition_by_hand():
    d, a, t = torch.tensor([[0.5, 0.25, 0.75]]), torch.zeros(1, 3), torch.tensor([[1.0, 0.0, -1.0]])
    groups = torch.tensor([0, 2, 3])
    mean = definition.importance_step(d, a, t, groups, lr=0.5, lam=1.0, kappa=2.0)
    assert mean.tolist() == [[0.5 + 1, 0.25 + 0.5 * 0.25, 0.75 - 0.5 * 2 * 0.25 - 1]]
    total = definition.importance_step(d, a, t, groups, lr=0.5, lam=1.0, kappa=2.0, reduction="sum")
    assert total.tolist() == [[0.5 + 1, 0.25 + 0.25, 0.75 - 0.25 - 1]]


@pytest.mark.parametrize(("dtype", "largest"), [(torch.float32, 87), (torch.float64, 707)])
def test_sigmoid_keeps_its_relative_precision(isa, dtype, largest):
    """From d = 0 with lr c = 1 a step gives sigmoid(-a) itself; the sums reach both ends."""
    generator = torch.Generator().manual_seed(0)
    sums = torch.rand(1, 500, generator=generator, dtype=torch.float64) * (largest + 10) - 10
    sums[0, :3] = torch.tensor([0.0, 1e-30, largest])
    sums = sums.to(dtype)
    zero = torch.zeros_like(sums)
    got = importance_step(zero, sums, zero, torch.tensor([0, 500]), lr=1.0, lam=0.5, kappa=0.0, reduction="sum")
    with localcontext() as context:
        context.prec = 40
        for a, value in zip(sums[0].tolist(), got[0].tolist(), strict=True):
            exact = 1 / (1 + Decimal(a).exp())
            assert abs(Decimal(value) / exact - 1) <= Decimal(2 * torch.finfo(dtype).eps), a


def test_far_sums_and_nan(isa, dtype):
    sums = torch.tensor([[1e4, torch.inf, -1e4, torch.nan]], dtype=dtype)
    zero = torch.zeros_like(sums)
    got = importance_step(zero, sums, zero, torch.tensor([0, 4]), lr=1.0, lam=0.5, kappa=0.0, reduction="sum")
    assert_same("sigmoid", got, torch.tensor([[0, 0, 1, torch.nan]], dtype=dtype))


def test_same_for_any_number_of_threads_and_instruction_set(isa, dtype, threads, every_isa):
    inputs = drawn(large_case(clients=60), dtype)
    every_isa(threads(importance_step, *inputs, **STEP), importance_step, *inputs, **STEP)


def test_gradient():
    redundancy, sums, unit_gradient, groups = drawn(small_case(), torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (redundancy, sums / 10, unit_gradient)]
    for step in (importance_step, definition.importance_step):
        for reduction in ("mean", "sum"):
            assert torch.autograd.gradcheck(
                lambda *given, step=step, reduction=reduction: step(*given, groups, **STEP, reduction=reduction), inputs
            )


def test_opcheck(dtype):
    redundancy, sums, unit_gradient, groups = drawn(small_case(), dtype)
    floats = [tensor.requires_grad_() for tensor in (redundancy, sums, unit_gradient)]
    torch.library.opcheck(torch.ops.fedlps.importance_step.default, (*floats, groups, 0.1, 1.0, 0.3, "mean"))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"redundancy": torch.zeros(2, 4)}, ValueError, "redundancy: got shape (2, 4), expected (C, U=5)"),
        (
            {"redundancy": torch.zeros(2, 5, dtype=torch.int64)},
            TypeError,
            "redundancy: got dtype int64, expected float32",
        ),
        ({"sums": torch.zeros(3, 5)}, ValueError, "sums: got shape (3, 5), expected (C=2, U=5)"),
        ({"sums": torch.zeros(2, 5, dtype=torch.float64)}, TypeError, "sums: got dtype float64, expected float32"),
        (
            {"unit_gradient": torch.zeros(5, 2).T},
            ValueError,
            "unit_gradient: got strides (1, 2), expected a contiguous",
        ),
        ({"groups": torch.tensor([0, 5, 3])}, ValueError, "groups: got [0, 5, 3], expected 0 first, then ascending"),
        ({"lr": float("nan")}, ValueError, "lr: got nan, expected a finite number"),
        ({"lam": float("inf")}, ValueError, "lam: got inf, expected a finite number"),
        ({"reduction": "max"}, ValueError, "reduction: got 'max', expected mean or sum"),
    ],
)
def test_refuses(changes, error, text):
    tensors = {name: torch.zeros(2, 5) for name in ("redundancy", "sums", "unit_gradient")}
    arguments = {**tensors, "groups": torch.tensor([0, 3, 5]), **STEP}
    importance_step(**arguments)
    refuses(importance_step, arguments, changes, error, text)
