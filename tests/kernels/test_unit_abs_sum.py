"""unit_abs_sum: definition against plain sums, native against the definition, gradient."""

import pytest
import torch
from hypothesis import assume, given

from fedlps_kernels import unit_abs_sum
from fedlps_kernels.layout import COLUMNS, INNER, ROW_GROUP, ROWS, WEIGHT
from fedlps_kernels.unit_abs_sum import definition
from tests.kernels.cases import cases, large_case, small_case
from tests.kernels.compare import assert_no_worse_than_torch, assert_same, refuses


@given(case=cases())
def test_definition_sums_the_rows(case):
    parameters = case.values(case.clients, case.layout.parameters)
    want = torch.zeros(case.clients, case.layout.units, dtype=torch.float64)
    for layer in case.layout.table.tolist():
        for row in range(layer[ROWS] if layer[ROW_GROUP] >= 0 else 0):
            width = layer[COLUMNS] * layer[INNER]
            first = layer[WEIGHT] + row * width
            unit = int(case.layout.groups[layer[ROW_GROUP]]) + row
            want[:, unit] += parameters[:, first : first + width].abs().sum(dim=1)
    torch.testing.assert_close(definition.unit_abs_sum(parameters, case.layout), want, rtol=1e-14, atol=0)


@given(case=cases())
def test_native_is_no_worse_than_torch(isa, case):
    parameters = case.values(case.clients, case.layout.parameters, dtype=torch.float32)
    exact = definition.unit_abs_sum(parameters.double(), case.layout)
    got, torchs = unit_abs_sum(parameters, case.layout), definition.unit_abs_sum(parameters, case.layout)
    assert_no_worse_than_torch("sums", got, torchs, exact)


@given(case=cases())
def test_matches_definition_in_float64(isa, case):
    """On multiples of 1/64 every sum is exact in any order."""
    parameters = case.values(case.clients, case.layout.parameters).mul(64).round().div(64)
    assert_same("sums", unit_abs_sum(parameters, case.layout), definition.unit_abs_sum(parameters, case.layout))


def test_same_for_any_number_of_threads_and_instruction_set(isa, dtype, threads, every_isa):
    case = large_case()
    parameters = case.values(4, case.layout.parameters, dtype=dtype)
    sums = threads(unit_abs_sum, parameters, case.layout)
    every_isa(sums, unit_abs_sum, parameters, case.layout)
    # at most 900 positive entries, added in no fewer than 8 lanes by either: 900 / 8 roundings
    bound = 900 / 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(sums, definition.unit_abs_sum(parameters, case.layout), rtol=bound, atol=0)


def test_infinite_and_nan_entries_show(isa):
    case = small_case(clients=1)
    parameters = torch.ones(1, 184)
    parameters[0, 3], parameters[0, 19] = -torch.inf, torch.nan
    sums = unit_abs_sum(parameters, case.layout)
    assert_same("sums", sums, definition.unit_abs_sum(parameters, case.layout))
    assert sums[0, 0] == torch.inf
    assert sums[0, 1].isnan()


def test_gradient():
    case = small_case()
    parameters = case.values(3, 184).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: unit_abs_sum(w, case.layout), parameters)
    assert torch.autograd.gradcheck(lambda w: definition.unit_abs_sum(w, case.layout), parameters)


@given(case=cases())
def test_gradient_is_autograds(dtype, case):
    parameters = case.values(case.clients, case.layout.parameters, dtype=dtype).round().requires_grad_()  # some are 0
    assume((case.layout.table[:, ROW_GROUP] >= 0).any())
    weights = case.values(case.clients, case.layout.units, dtype=dtype)
    (got,) = torch.autograd.grad((unit_abs_sum(parameters, case.layout) * weights).sum(), parameters)
    (want,) = torch.autograd.grad((definition.unit_abs_sum(parameters, case.layout) * weights).sum(), parameters)
    assert_same("gradient", got, want)


def test_opcheck(dtype):
    case = small_case()
    layout, parameters = case.layout, case.values(3, 184, dtype=dtype).requires_grad_()
    operator = torch.ops.fedlps.unit_abs_sum.default
    torch.library.opcheck(operator, (parameters, layout.table, layout.groups, layout.units))
    gradient = case.values(3, 9, dtype=dtype)
    operator = torch.ops.fedlps.unit_abs_sum_gradient.default
    torch.library.opcheck(operator, (gradient, parameters.detach(), layout.table, layout.groups))


@pytest.mark.parametrize(
    ("parameters", "error", "text"),
    [
        (torch.zeros(184), ValueError, "parameters: got shape (184,), expected (C, P=184)"),
        (torch.zeros(2, 183), ValueError, "parameters: got shape (2, 183), expected (C, P=184)"),
        (torch.zeros(184, 2).T, ValueError, "parameters: got strides (1, 2), expected a contiguous tensor"),
        (
            torch.zeros(2, 184, dtype=torch.float16),
            TypeError,
            "parameters: got dtype float16, expected float32 or float64",
        ),
    ],
)
def test_refuses(parameters, error, text):
    arguments = {"parameters": torch.zeros(2, 184), "layout": small_case().layout}
    unit_abs_sum(**arguments)
    refuses(unit_abs_sum, arguments, {"parameters": parameters}, error, text)
