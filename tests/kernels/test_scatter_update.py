"""scatter_update: definition against torch's own SGD, native against the definition, nothing else touched."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlps_kernels import scatter_update
from fedlps_kernels.scatter_update import definition
from tests.kernels.cases import cases, large_case, small_case
from tests.kernels.compare import assert_no_worse_than_torch, assert_same, refuses
from tests.kernels.test_gather_weights import COUNTS, KEPT, REFUSED_SUBMODELS

PLAIN = {"lr": 0.1, "pull": 0.02, "weight_decay": 0.003, "clip": 0.0, "momentum": 0.0}
NUMBERS = st.fixed_dictionaries(
    {
        "lr": st.sampled_from([0.1, 1.0]),
        "pull": st.sampled_from([0.0, 0.02]),
        "weight_decay": st.sampled_from([0.0, 0.003]),
        "clip": st.sampled_from([0.0, 0.5, 1e6]),
        "momentum": st.sampled_from([0.0, 0.9]),
    }
)


def updated(update, case, numbers, dtype, seed=0):
    """(parameters, velocity) after one step from the same start for the same seed."""
    case.generator.manual_seed(seed)
    parameters = case.values(case.clients, case.layout.parameters, dtype=torch.float32).to(dtype)
    gradient = case.values(case.clients, case.capacity, dtype=torch.float32).to(dtype)
    anchor = case.values(case.layout.parameters, dtype=torch.float32).to(dtype)
    velocity = case.values(case.clients, case.layout.parameters, dtype=torch.float32).to(dtype)
    velocity = velocity if numbers["momentum"] > 0 else None
    assert (
        update(parameters, gradient, anchor, case.kept, case.counts, case.layout, **numbers, velocity=velocity) is None
    )
    return parameters, velocity


@given(case=cases(), numbers=NUMBERS)
def test_matches_definition(isa, dtype, case, numbers):
    got = updated(scatter_update, case, numbers, dtype)
    want = updated(definition.scatter_update, case, numbers, dtype)
    exact = updated(definition.scatter_update, case, numbers, torch.float64)
    for name, ours, torchs, best in zip(("parameters", "velocity"), got, want, exact, strict=True):
        if torchs is not None and numbers["clip"] == 0:
            assert_same(name, ours, torchs)
        elif torchs is not None:  # the norm is summed in another order
            assert_no_worse_than_torch(name, ours, torchs, best)


@given(case=cases(), numbers=NUMBERS)
def test_touches_only_kept_entries(isa, case, numbers):
    before, velocity_before = updated(lambda *_, **__: None, case, numbers, torch.float32)
    after, velocity = updated(scatter_update, case, numbers, torch.float32)
    dropped = ~case.mask()
    assert_same("dropped parameters", after[dropped], before[dropped])
    if velocity is not None:
        assert_same("dropped velocity", velocity[dropped], velocity_before[dropped])


@pytest.mark.parametrize("update", [scatter_update, definition.scatter_update])
def test_is_torchs_sgd_with_clipping(update):
    """Two steps on full submodels against torch.optim.SGD and clip_grad_norm_."""
    case = small_case(clients=1)
    kept = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3]], dtype=torch.int32)
    counts = torch.tensor([[5, 4]], dtype=torch.int32)
    numbers = {"lr": 0.1, "pull": 0.0, "weight_decay": 0.01, "clip": 3.0, "momentum": 0.9}
    parameters, velocity, anchor = case.values(1, 184), torch.zeros(1, 184, dtype=torch.float64), case.values(184)
    weight = torch.nn.Parameter(parameters[0].clone())
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(2):
        gradient = case.values(1, 184)
        weight.grad = gradient[0].clone()
        torch.nn.utils.clip_grad_norm_([weight], 3.0)
        optimizer.step()
        update(parameters, gradient, anchor, kept, counts, case.layout, **numbers, velocity=velocity)
    torch.testing.assert_close(parameters[0], weight.detach(), rtol=1e-13, atol=1e-15)


def test_pull_leads_to_the_anchor(isa, dtype):
    """Without a gradient and with lr * pull = 1 the kept entries become the anchor's (q is exact for these values)."""
    case = small_case()
    parameters, anchor = torch.full((3, 184), 3.0, dtype=dtype), torch.full((184,), 2.0, dtype=dtype)
    gradient = torch.zeros(3, case.capacity, dtype=dtype)
    numbers = {**PLAIN, "lr": 0.5, "pull": 2.0, "weight_decay": 0.0}
    scatter_update(parameters, gradient, anchor, case.kept, case.counts, case.layout, **numbers)
    assert_same("parameters", parameters, torch.where(case.mask(), 2.0, 3.0).to(dtype))


def test_not_a_number_shows_through_clipping(isa):
    case = small_case(clients=1)
    parameters, gradient = torch.zeros(1, 184), torch.zeros(1, case.capacity)
    gradient[0, 0] = torch.nan
    scatter_update(
        parameters, gradient, torch.zeros(184), case.kept, case.counts, case.layout, **{**PLAIN, "clip": 1.0}
    )
    assert parameters[case.mask()].isnan().all()


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_same_for_any_number_of_threads_and_instruction_set(isa, dtype, threads, every_isa, clip):
    case = large_case()
    numbers = {**PLAIN, "clip": clip, "momentum": 0.9}

    def both() -> torch.Tensor:
        return torch.cat(updated(scatter_update, case, numbers, dtype))

    every_isa(threads(both), both)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_opcheck(dtype, momentum):
    case = small_case()
    tensors = (
        case.values(3, 184, dtype=dtype),
        case.values(3, case.capacity, dtype=dtype),
        case.values(184, dtype=dtype),
    )
    velocity = case.values(3, 184, dtype=dtype) if momentum else None
    places = case.kept, case.counts, case.layout.table, case.layout.groups
    numbers = 0.1, 0.02, 0.003, 0.5, momentum
    torch.library.opcheck(torch.ops.fedlps.scatter_update.default, (*tensors, *places, *numbers, velocity))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        *REFUSED_SUBMODELS,
        ({"parameters": torch.zeros(2, 185)}, ValueError, "parameters: got shape (2, 185), expected (C, P=184)"),
        ({"parameters": torch.zeros(2, 184).long()}, TypeError, "parameters: got dtype int64, expected float32 or"),
        ({"parameters": torch.zeros(184, 2).T}, ValueError, "parameters: got strides (1, 2), expected a contiguous"),
        ({"gradient": torch.zeros(3, 55)}, ValueError, "gradient: got shape (3, 55), expected (C=2, N)"),
        ({"gradient": torch.zeros(2, 55).double()}, TypeError, "gradient: got dtype float64, expected float32"),
        ({"gradient": torch.zeros(2, 54)}, ValueError, "gradient: N: got 54, expected at least 55"),
        ({"anchor": torch.zeros(1, 184)}, ValueError, "anchor: got shape (1, 184), expected (P=184)"),
        ({"lr": float("inf")}, ValueError, "lr: got inf, expected a finite number"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay: got -0.1, expected a finite number of at least 0"),
        ({"clip": -1.0}, ValueError, "clip: got -1.0, expected a finite number of at least 0"),
        (
            {"momentum": 0.9},
            ValueError,
            "velocity: got none with momentum 0.9, expected one if and only if momentum > 0",
        ),
        (
            {"velocity": torch.zeros(2, 184)},
            ValueError,
            "velocity: got one with momentum 0.0, expected one if and only",
        ),
        (
            {"momentum": 0.9, "velocity": torch.zeros(2, 9)},
            ValueError,
            "velocity: got shape (2, 9), expected (C=2, P=184)",
        ),
    ],
)
def test_refuses(changes, error, text):
    arguments = {
        "parameters": torch.zeros(2, 184),
        "gradient": torch.zeros(2, 55),
        "anchor": torch.zeros(184),
        "kept": KEPT,
        "counts": COUNTS,
        "layout": small_case().layout,
        **PLAIN,
    }
    scatter_update(**arguments)
    refuses(scatter_update, arguments, changes, error, text)
