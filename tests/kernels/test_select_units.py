"""select_units: native against the definition, and the laws of a selection."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlps_kernels import select_units
from fedlps_kernels.select_units import definition
from tests.kernels.cases import large_case, small_case
from tests.kernels.compare import assert_same, refuses

# few distinct values make ties; the others are neighbours in float32 and in float64
SCORES = st.sampled_from([0.0, -0.0, 1.0, 1.0 + 2**-23, 1.0 + 2**-52, -1.0, float("inf"), float("-inf"), 1e-45, 3.5])


@st.composite
def selections(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    sizes = draw(st.lists(st.integers(1, 17), max_size=3))
    clients = draw(st.integers(0, 3))
    scores = [draw(st.lists(SCORES, min_size=sum(sizes), max_size=sum(sizes))) for _ in range(clients)]
    counts = [[draw(st.integers(0, size)) for size in sizes] for _ in range(clients)]
    return (
        torch.tensor(scores, dtype=torch.float64).reshape(clients, sum(sizes)),
        torch.tensor(counts, dtype=torch.int32).reshape(clients, len(sizes)),
        torch.tensor([0, *sizes]).cumsum(0),
    )


@given(selection=selections())
def test_matches_definition(isa, dtype, selection):
    scores, counts, groups = selection
    inputs = scores.to(dtype), counts, groups
    assert_same("kept", select_units(*inputs), definition.select_units(*inputs))


@given(selection=selections())
def test_definition_takes_the_largest(selection):
    """Against Python's own sort: highest score first, then lowest index."""
    scores, counts, groups = selection
    kept = definition.select_units(scores, counts, groups)
    for client, numbers in enumerate(counts.tolist()):
        for group, count in enumerate(numbers):
            first, last = groups[group : group + 2].tolist()
            row = scores[client, first:last].tolist()
            chosen = sorted(sorted(range(len(row)), key=lambda unit: (-row[unit], unit))[:count])
            assert kept[client, first:last].tolist() == chosen + [-1] * (last - first - count)


@given(data=st.data(), size=st.integers(1, 150), score=SCORES)
def test_one_unit_all_units_and_all_equal(isa, dtype, data, size, score):
    """Groups wider than any register: the first of the largest, everybody, and the first ones of a tie of all."""
    row = torch.tensor(data.draw(st.lists(SCORES, min_size=size, max_size=size)), dtype=dtype)
    groups, numbers = torch.tensor([0, size]), torch.arange(size, dtype=torch.int32)

    def chosen(scores: torch.Tensor, count: int) -> torch.Tensor:
        return select_units(scores[None], torch.tensor([[count]], dtype=torch.int32), groups)[0]

    ties = [unit for unit, value in enumerate(row.tolist()) if value == max(row.tolist())]
    assert chosen(row, 1).tolist() == [ties[0]] + [-1] * (size - 1)
    assert_same("all units", chosen(row, size), numbers)
    count = data.draw(st.integers(0, size))
    assert_same("equal scores", chosen(torch.full_like(row, score), count), numbers.where(numbers < count, -1))


@given(selection=selections(), data=st.data())
def test_a_nan_is_flagged_wherever_it_is(isa, dtype, selection, data):
    """Kept or not, among infinities or not; the first one is named."""
    scores, counts, groups = selection
    if not scores.numel():
        return
    places = data.draw(st.sets(st.integers(0, scores.numel() - 1), min_size=1, max_size=3))
    scores = scores.to(dtype)
    scores.view(-1)[list(places)] = torch.nan
    client, unit = divmod(min(places), scores.shape[1])
    refuses(
        select_units,
        {"scores": scores, "counts": counts, "groups": groups},
        {},
        ValueError,
        f"client {client}, unit {unit}",
    )


def test_scores_that_float32_cannot_tell_apart_tie(isa):
    near = torch.tensor([[1.0, 1.0 + 2**-40, 1.0 - 2**-40]], dtype=torch.float64)
    arguments = torch.tensor([[1]], dtype=torch.int32), torch.tensor([0, 3])
    assert select_units(near, *arguments).tolist() == [[1, -1, -1]]
    assert select_units(near.float(), *arguments).tolist() == [[0, -1, -1]]


def test_same_for_any_number_of_threads(isa, dtype, threads):
    case = large_case(clients=40)
    scores = case.values(40, 401, dtype=dtype)
    assert_same(
        "kept",
        threads(select_units, scores, case.counts, case.layout.groups),
        definition.select_units(scores, case.counts, case.layout.groups),
    )


def test_opcheck(dtype):
    case = small_case()
    torch.library.opcheck(
        torch.ops.fedlps.select_units.default, (case.values(3, 9, dtype=dtype), case.counts, case.layout.groups)
    )


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"scores": torch.zeros(2, 4)}, ValueError, "scores: got shape (2, 4), expected (C, U=5)"),
        ({"scores": torch.zeros(5)}, ValueError, "scores: got shape (5,), expected (C, U=5)"),
        ({"scores": torch.zeros(2, 5, dtype=torch.int32)}, TypeError, "scores: got dtype int32, expected float32 or"),
        ({"scores": torch.zeros(5, 2).T}, ValueError, "scores: got strides (1, 2), expected a contiguous tensor"),
        ({"scores": torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, torch.nan, 0]])}, ValueError, "client 1, unit 3"),
        ({"counts": torch.zeros(2, 2)}, TypeError, "counts: got dtype float32, expected int32"),
        ({"counts": torch.zeros(3, 2, dtype=torch.int32)}, ValueError, "counts: got shape (3, 2), expected (C=2, G=2)"),
        (
            {"counts": torch.tensor([[1, 1], [1, 3]], dtype=torch.int32)},
            ValueError,
            "counts: got 3 for client 1, group 1, expected 0 <= count <= 2",
        ),
        (
            {"counts": torch.tensor([[-1, 1], [1, 2]], dtype=torch.int32)},
            ValueError,
            "counts: got -1 for client 0, group",
        ),
        (
            {"groups": torch.tensor([0, 3, 3, 5])},
            ValueError,
            "groups: got [0, 3, 3, 5], expected 0 first, then ascending",
        ),
        ({"groups": torch.tensor([0, 3, 5], dtype=torch.int32)}, TypeError, "groups: got dtype int32, expected int64"),
    ],
)
def test_refuses(changes, error, text):
    arguments = {
        "scores": torch.zeros(2, 5),
        "counts": torch.zeros(2, 2, dtype=torch.int32),
        "groups": torch.tensor([0, 3, 5]),
    }
    select_units(**arguments)
    refuses(select_units, arguments, changes, error, text)
