"""The public ops through the CUDA sources: dispatch, gradients' helpers, clients alone, and errors in one line."""

import pytest
import torch

from fedlps_kernels import (
    gather_weights,
    importance_step,
    native,
    scatter_aggregate,
    scatter_update,
    select_units,
    unit_abs_sum,
)
from fedlps_kernels.gather_weights import scatter_weights
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.scatter_update import cuda as updating
from tests.fibers.compare import assert_near
from tests.kernels.cases import Case, small_case
from tests.kernels.compare import assert_same, refuses


def results(case: Case, dtype: torch.dtype, clients: slice = slice(None)) -> dict[str, torch.Tensor]:
    """What every op makes of these clients of the case; the numbers are drawn for all."""
    case = Case(case.layout, case.kept, case.counts, torch.Generator().manual_seed(5))
    drawn = {
        name: case.values(*shape, dtype=dtype)
        for name, shape in {
            "w": (3, 184),
            "velocity": (3, 184),
            "compact": (3, case.capacity),
            "anchor": (184,),
            "d": (3, 9),
            "a": (3, 9),
            "t": (3, 9),
        }.items()
    }
    w, velocity, compact, d, a, t = (drawn[name][clients] for name in ("w", "velocity", "compact", "d", "a", "t"))
    kept, counts, layout, groups = case.kept[clients], case.counts[clients], case.layout, case.layout.groups
    weights = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)[clients]
    found = {
        "unit_abs_sum": unit_abs_sum(w, layout),
        "select_units": select_units(d, counts, groups),
        "importance_step": importance_step(d, a, t, groups, lr=0.5, lam=2.0, kappa=0.25),
        "gather_weights": gather_weights(w, kept, counts, layout, case.capacity),
        "gather_weights, shared": gather_weights(drawn["anchor"][None], kept, counts, layout, case.capacity),
        "scatter_weights": scatter_weights(compact, kept, counts, layout),
    }
    if clients == slice(None):
        for rule in ("sum", "holders"):
            arguments = drawn["anchor"], compact, kept, counts, weights, layout, rule
            found[f"scatter_aggregate {rule}"] = scatter_aggregate(*arguments)
    numbers = {"lr": 0.5, "pull": 0.25, "weight_decay": 0.5, "clip": 1.0, "momentum": 0.5, "velocity": velocity}
    scatter_update(w, compact, drawn["anchor"], kept, counts, layout, **numbers)
    return {**found, "scatter_update": w, "velocity": velocity}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_ops_agree_with_the_definitions(as_gpu, monkeypatch, dtype):
    through = results(small_case(), dtype)
    monkeypatch.setattr(native, "serves_gpu", lambda _: False)
    monkeypatch.setattr(native, "load", lambda: (None, "not here"))
    for name, want in results(small_case(), torch.float64).items():
        assert_near(name, through[name], want)


def test_a_client_alone_has_the_same_bits(as_gpu):
    together = results(small_case(), torch.float32)
    for client in range(3):
        alone = results(small_case(), torch.float32, slice(client, client + 1))
        for name, got in alone.items():
            assert_same(name, got[0], together[name][client])


def test_no_clients_at_all(as_gpu):
    case = small_case(clients=0)
    assert unit_abs_sum(torch.zeros(0, 184), case.layout).shape == (0, 9)
    assert gather_weights(torch.zeros(0, 184), case.kept, case.counts, case.layout, 3).shape == (0, 3)
    anchor = case.values(184, dtype=torch.float32)
    none = torch.zeros(0, 3), case.kept, case.counts, torch.zeros(0, dtype=torch.float64)
    assert_same("aggregate", scatter_aggregate(anchor, *none, case.layout), anchor)


def test_a_failed_launch_is_one_line(as_gpu):
    as_gpu.fail_next(2)
    with pytest.raises(RuntimeError, match=r"^unit_abs_sum: CUDA says cudaErrorOfTheShim, as the test wants it$"):
        unit_abs_sum(torch.zeros(1, 184), small_case().layout)
    unit_abs_sum(torch.zeros(1, 184), small_case().layout)


def test_refuses(fibers):
    case = small_case()
    model = OnDevice.of(case.layout, "cpu")
    arguments = {
        "parameters": torch.zeros(3, 184),
        "gradient": torch.zeros(3, case.capacity),
        "places": updating.Places(*(torch.zeros(3, 3, dtype=torch.int64),) * 4, torch.zeros(3, 3, 3), *(None,) * 2, 0),
        "pulls": [],
        "kept": case.kept,
        "counts": case.counts,
        "model": model,
        "lr": torch.zeros(1),
        "clip": 1.0,
    }
    refuses(updating.scatter_update, arguments, {}, ValueError, "room: got none with clip 1.0, expected memory")
    pulls = {"pulls": [(1.0, torch.zeros(184))] * 5, "clip": 0.0}
    refuses(updating.scatter_update, arguments, pulls, ValueError, "pulls: got 5, expected at most 4")
    large = case.layout.table.clone()
    large[:, 4] = 2**26
    with pytest.raises(ValueError, match=r"^layout: got some \d+ parameters, expected less than 2\^27 for a GPU$"):
        fibers.cuda_pieces_of_work(native.array(large))
