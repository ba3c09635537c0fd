"""scatter_aggregate: definition against dense arithmetic, native against the definition, gradients."""

import pytest
import torch
from hypothesis import given

from fedlps_kernels import scatter_aggregate
from fedlps_kernels.scatter_aggregate import definition
from tests.kernels.cases import cases, large_case, small_case
from tests.kernels.compare import assert_same, refuses
from tests.kernels.test_gather_weights import COUNTS, KEPT, REFUSED_SUBMODELS

RULES = ["sum", "holders"]


def drawn(case, dtype):
    """Parameters, residuals, kept, counts, weights, layout. Weights are of any size, some 0."""
    weights = case.values(case.clients).abs() * (case.values(case.clients) > -1)
    parameters = case.values(case.layout.parameters, dtype=dtype)
    residuals = case.values(case.clients, case.capacity, dtype=dtype)
    return parameters, residuals, case.kept, case.counts, weights, case.layout


@pytest.mark.parametrize("rule", RULES)
@given(case=cases())
def test_matches_definition(isa, dtype, rule, case):
    inputs = drawn(case, dtype)
    assert_same("parameters", scatter_aggregate(*inputs, rule), definition.scatter_aggregate(*inputs, rule))


@pytest.mark.parametrize("rule", RULES)
@given(case=cases())
def test_definition_is_a_weighted_mean_of_dense_residuals(rule, case):
    inputs = parameters, residuals, kept, counts, weights, layout = drawn(case, torch.float64)
    dense = torch.zeros(case.clients, layout.parameters, dtype=torch.float64)
    for client in range(case.clients):
        entries = layout.entries(kept[client], counts[client])
        dense[client, entries] = residuals[client, : len(entries)]
    change = (weights[:, None] * dense).sum(dim=0)
    if rule == "holders":
        held = (weights[:, None] * case.mask()).sum(dim=0)
        change = torch.where(held > 0, change / held.clamp(min=1e-300), 0)
    got = definition.scatter_aggregate(*inputs, rule)
    torch.testing.assert_close(got, parameters - change, rtol=0, atol=1e-13)


@pytest.mark.parametrize("rule", RULES)
def test_nobody_changes_nothing(isa, dtype, rule):
    inputs = drawn(small_case(clients=0), dtype)
    folded = scatter_aggregate(*inputs, rule)
    assert_same("parameters", folded, inputs[0])
    assert folded.data_ptr() != inputs[0].data_ptr()


def test_equal_clients_reduce_to_federated_averaging(isa):
    """Weights that add to one, full submodels that all end at the same place: that place."""
    layout = small_case().layout
    kept = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3]] * 4, dtype=torch.int32)
    counts = torch.tensor([[5, 4]] * 4, dtype=torch.int32)
    parameters, end = torch.arange(184.0), torch.full((184,), 7.0)
    residuals = (parameters - end).repeat(4, 1)
    weights = torch.full((4,), 0.25, dtype=torch.float64)
    for rule in RULES:
        assert_same(rule, scatter_aggregate(parameters, residuals, kept, counts, weights, layout, rule), end)


@pytest.mark.parametrize("rule", RULES)
def test_same_for_any_number_of_threads_and_instruction_set(isa, dtype, threads, every_isa, rule):
    inputs = drawn(large_case(), dtype)
    folded = threads(scatter_aggregate, *inputs, rule)
    every_isa(folded, scatter_aggregate, *inputs, rule)
    assert_same("parameters", folded, definition.scatter_aggregate(*inputs, rule))


@pytest.mark.parametrize("rule", RULES)
def test_gradients(rule):
    parameters, residuals, *rest = drawn(small_case(), torch.float64)
    given = parameters.requires_grad_(), residuals.requires_grad_()
    for aggregate in (scatter_aggregate, definition.scatter_aggregate):
        assert torch.autograd.gradcheck(
            lambda w, r, aggregate=aggregate: aggregate(w, r, *rest, rule), given, fast_mode=True
        )


@pytest.mark.parametrize("rule", RULES)
def test_opcheck(dtype, rule):
    parameters, residuals, kept, counts, weights, layout = drawn(small_case(), dtype)
    inputs = parameters.requires_grad_(), residuals.requires_grad_(), kept, counts, weights, layout.table, layout.groups
    torch.library.opcheck(torch.ops.fedlps.scatter_aggregate.default, (*inputs, rule))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        *REFUSED_SUBMODELS,
        ({"parameters": torch.zeros(1, 184)}, ValueError, "parameters: got shape (1, 184), expected (P=184)"),
        ({"parameters": torch.zeros(184).int()}, TypeError, "parameters: got dtype int32, expected float32 or float64"),
        (
            {"parameters": torch.zeros(368)[::2]},
            ValueError,
            "parameters: got strides (2,), expected a contiguous tensor",
        ),
        ({"residuals": torch.zeros(2, 54)}, ValueError, "residuals: N: got 54, expected at least 55"),
        ({"residuals": torch.zeros(2, 55).double()}, TypeError, "residuals: got dtype float64, expected float32"),
        ({"weights": torch.ones(2)}, TypeError, "weights: got dtype float32, expected float64"),
        ({"weights": torch.ones(3).double()}, ValueError, "weights: got shape (3,), expected (C=2)"),
        (
            {"weights": torch.tensor([1, -0.5]).double()},
            ValueError,
            "weights: got -0.5 for client 1, expected finite weights of at least 0",
        ),
        (
            {"weights": torch.tensor([torch.nan, 1]).double()},
            ValueError,
            "weights: got nan for client 0, expected finite",
        ),
        ({"rule": "mean"}, ValueError, "rule: got 'mean', expected sum or holders"),
    ],
)
def test_refuses(changes, error, text):
    arguments = {
        "parameters": torch.zeros(184),
        "residuals": torch.zeros(2, 55),
        "kept": KEPT,
        "counts": COUNTS,
        "weights": torch.ones(2, dtype=torch.float64),
        "layout": small_case().layout,
    }
    scatter_aggregate(**arguments)
    refuses(scatter_aggregate, arguments, changes, error, text)
