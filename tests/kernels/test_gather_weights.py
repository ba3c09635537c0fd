"""gather_weights and its adjoint: native against the definition, round trips, gradients."""

import pytest
import torch
from hypothesis import given

from fedlps_kernels import gather_weights
from fedlps_kernels.gather_weights import definition, scatter_weights
from tests.kernels.cases import cases, large_case, small_case
from tests.kernels.compare import assert_same, refuses


@given(case=cases())
def test_matches_definition(isa, dtype, case):
    submodels = case.kept, case.counts, case.layout
    for rows in {1, case.clients}:
        parameters = case.values(rows, case.layout.parameters, dtype=dtype)
        got = gather_weights(parameters, *submodels, case.capacity)
        assert_same("compact", got, definition.gather_weights(parameters, *submodels, case.capacity))
    compact = case.values(case.clients, case.capacity, dtype=dtype)
    assert_same("flat", scatter_weights(compact, *submodels), definition.scatter_weights(compact, *submodels))


def test_definition_by_hand():
    """Units 0 and 2 of three, then columns 0 and 2 behind them: rows x columns x inner, then biases."""
    case = small_case(clients=1)
    kept = torch.tensor([[1, 4, -1, -1, -1, 2, -1, -1, -1]], dtype=torch.int32)
    counts = torch.tensor([[2, 1]], dtype=torch.int32)
    compact = definition.gather_weights(torch.arange(184.0)[None], kept, counts, case.layout, 60)[0].int().tolist()
    convolution = [*range(18, 36), *range(72, 90), 91, 94, 96, 99, 101, 104]
    linear = [*range(138, 141), *range(147, 150), 167]
    output = [169 + 2, 169 + 6, 169 + 10, 181, 182, 183]
    assert compact == convolution + linear + output + [0] * (60 - 55)


@given(case=cases())
def test_there_and_back_keeps_the_kept_entries(isa, dtype, case):
    parameters = case.values(case.clients, case.layout.parameters, dtype=dtype)
    submodels = case.kept, case.counts, case.layout
    back = scatter_weights(gather_weights(parameters, *submodels, case.capacity), *submodels)
    assert_same("flat", back, torch.where(case.mask(), parameters, 0))


@given(case=cases())
def test_back_and_there_keeps_every_submodel(isa, dtype, case):
    """Whatever a compact vector holds behind its submodel's end."""
    submodels = case.kept, case.counts, case.layout
    compact = case.values(case.clients, case.capacity, dtype=dtype)
    again = gather_weights(scatter_weights(compact, *submodels), *submodels, case.capacity)
    sizes = case.layout.compact_sizes(case.counts)
    assert_same("compact", again, compact.where(torch.arange(case.capacity) < sizes[:, None], 0))


@given(case=cases())
def test_the_places_of_a_submodel_are_its_entries(isa, case):
    """Gathering the numbers of the entries gives `Layout.entries`, each kept entry once."""
    numbers = torch.arange(case.layout.parameters, dtype=torch.float64)[None]
    gathered = gather_weights(numbers, case.kept, case.counts, case.layout, case.capacity)
    for client in range(case.clients):
        entries = case.layout.entries(case.kept[client], case.counts[client])
        assert_same("entries", gathered[client, : len(entries)].long(), entries)
        assert len(entries.unique()) == len(entries) == case.mask()[client].sum()


def test_all_units_kept_is_the_flat_vector(isa, dtype):
    layout = small_case().layout
    kept = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3]], dtype=torch.int32)
    parameters = torch.arange(184, dtype=dtype)[None]
    counts = torch.tensor([[5, 4]], dtype=torch.int32)
    assert_same("compact", gather_weights(parameters, kept, counts, layout, 184), parameters)


def test_same_for_any_number_of_threads(isa, dtype, threads):
    case = large_case()
    parameters = case.values(4, case.layout.parameters, dtype=dtype)
    compact = threads(gather_weights, parameters, case.kept, case.counts, case.layout, case.capacity)
    submodels = case.kept, case.counts, case.layout
    assert_same("compact", compact, definition.gather_weights(parameters, *submodels, case.capacity))


@pytest.mark.parametrize("rows", [1, 3])
def test_gradients(rows):
    case = small_case()
    submodels = case.kept, case.counts, case.layout
    parameters = case.values(rows, 184).requires_grad_()
    compact = case.values(3, case.capacity).requires_grad_()
    for gather in (gather_weights, definition.gather_weights):
        assert torch.autograd.gradcheck(
            lambda w, gather=gather: gather(w, *submodels, case.capacity), parameters, fast_mode=True
        )
    assert torch.autograd.gradgradcheck(
        lambda w: gather_weights(w, *submodels, case.capacity), parameters, fast_mode=True
    )
    assert torch.autograd.gradcheck(lambda c: scatter_weights(c, *submodels), compact, fast_mode=True)


def test_opcheck(dtype):
    case = small_case()
    layout = case.layout
    places = case.kept, case.counts, layout.table, layout.groups
    for rows in (1, 3):
        parameters = case.values(rows, 184, dtype=dtype).requires_grad_()
        torch.library.opcheck(torch.ops.fedlps.gather_weights.default, (parameters, *places, case.capacity))
    compact = case.values(3, case.capacity, dtype=dtype).requires_grad_()
    torch.library.opcheck(torch.ops.fedlps.scatter_weights.default, (compact, *places, 184))


KEPT = torch.tensor([[1, 4, -1, -1, -1, 2, -1, -1, -1]] * 2, dtype=torch.int32)
COUNTS = torch.tensor([[2, 1]] * 2, dtype=torch.int32)


def with_entry(tensor: torch.Tensor, place: tuple[int, int], value: int) -> torch.Tensor:
    changed = tensor.clone()
    changed[place] = value
    return changed


REFUSED_SUBMODELS = [
    ({"kept": KEPT.long()}, TypeError, "kept: got dtype int64, expected int32"),
    ({"kept": KEPT[:, :8].contiguous()}, ValueError, "kept: got shape (2, 8), expected (C=2, U=9)"),
    ({"kept": KEPT.T.contiguous().T}, ValueError, "kept: got strides (1, 2), expected a contiguous tensor"),
    (
        {"kept": with_entry(KEPT, (1, 5), 4)},
        ValueError,
        "kept: got 4 for client 1, group 1, place 0, expected ascending indices below 4",
    ),
    (
        {"kept": with_entry(KEPT, (0, 1), 5)},
        ValueError,
        "kept: got 5 for client 0, group 0, place 1, expected ascending",
    ),
    (
        {"kept": with_entry(KEPT, (0, 1), 1)},
        ValueError,
        "kept: got 1 for client 0, group 0, place 1, expected ascending",
    ),
    ({"kept": with_entry(KEPT, (0, 0), -1)}, ValueError, "kept: got -1 for client 0, group 0, place 0, expected"),
    ({"kept": with_entry(KEPT, (0, 0), -5)}, ValueError, "kept: got -5 for client 0, group 0, place 0, expected"),
    (
        {"counts": with_entry(COUNTS, (1, 0), 6)},
        ValueError,
        "counts: got 6 for client 1, group 0, expected 0 <= count <= 5",
    ),
    (
        {"counts": with_entry(COUNTS, (1, 0), -1)},
        ValueError,
        "counts: got -1 for client 1, group 0, expected 0 <= count",
    ),
    ({"counts": COUNTS[:, :1].contiguous()}, ValueError, "counts: got shape (2, 1), expected (C=2, G=2)"),
    ({"counts": COUNTS.double()}, TypeError, "counts: got dtype float64, expected int32"),
]


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        *REFUSED_SUBMODELS,
        ({"parameters": torch.zeros(3, 184)}, ValueError, "counts: got shape (2, 2), expected (C=3, G=2)"),
        ({"parameters": torch.zeros(2, 185)}, ValueError, "parameters: got shape (2, 185), expected (C or 1, P=184)"),
        ({"parameters": torch.zeros(2, 184).half()}, TypeError, "parameters: got dtype float16, expected float32 or"),
        ({"parameters": torch.zeros(184, 2).T}, ValueError, "parameters: got strides (1, 2), expected a contiguous"),
        ({"capacity": 54}, ValueError, "capacity: got 54, expected at least 55, the entries of the largest submodel"),
    ],
)
def test_refuses(changes, error, text):
    arguments = {
        "parameters": torch.zeros(2, 184),
        "kept": KEPT,
        "counts": COUNTS,
        "layout": small_case().layout,
        "capacity": 55,
    }
    gather_weights(**arguments)
    refuses(gather_weights, arguments, changes, error, text)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        *REFUSED_SUBMODELS,
        ({"compact": torch.zeros(2, 54)}, ValueError, "compact: N: got 54, expected at least 55"),
        ({"compact": torch.zeros(3, 55)}, ValueError, "counts: got shape (2, 2), expected (C=3, G=2)"),
        ({"compact": torch.zeros(55)}, ValueError, "compact: got shape (55,), expected (C, N)"),
        ({"compact": torch.zeros(55, 2).T}, ValueError, "compact: got strides (1, 2), expected a contiguous tensor"),
    ],
)
def test_scatter_refuses(changes, error, text):
    arguments = {"compact": torch.zeros(2, 55), "kept": KEPT, "counts": COUNTS, "layout": small_case().layout}
    scatter_weights(**arguments)
    refuses(scatter_weights, arguments, changes, error, text)
