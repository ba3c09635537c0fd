"""The public ops through the CUDA sources: dispatch, gradients' helpers, clients alone, and errors in one line."""

import pytest
import torch

from fedlps_kernels import gather_weights, native, scatter_aggregate, unit_abs_sum
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.scatter_update import cuda as updating
from tests.fibers.compare import assert_near
from tests.fibers.ops import alone_as_together, results
from tests.kernels.cases import small_case
from tests.kernels.compare import assert_same, refuses


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_ops_agree_with_the_definitions(as_gpu, monkeypatch, dtype):
    through = results(small_case(), dtype)
    monkeypatch.setattr(native, "serves_gpu", lambda _: False)
    monkeypatch.setattr(native, "load", lambda: (None, "not here"))
    for name, want in results(small_case(), torch.float64).items():
        assert_near(name, through[name], want)


def test_a_client_alone_has_the_same_bits(as_gpu):
    alone_as_together(small_case(), torch.float32)


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
