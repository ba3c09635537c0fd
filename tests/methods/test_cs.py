"""CS: the server's sum and its pruning, what never changes, and its cost."""

from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.errors import InputError
from fedlps.methods import METHODS
from fedlps.models import chain
from fedlps.recipe import complement, consensus, upload
from tests.engine.cases import executor_of, samples
from tests.recipe.federations import SHAPE, federation, outcome_of, round_of, submodels
from tests.running import model_of, tiny


def hand(values: list[float], fed, base: torch.Tensor) -> torch.Tensor:
    """The base with these first four weights."""
    vector = base.clone()
    vector[:4] = torch.tensor(values, dtype=torch.float64)
    return vector


@pytest.mark.parametrize(
    ("second", "want"), [([4, -2, 0, -3], [4, -3, 0, 0]), ([4, -2, 6, -3], [4, 0, 6, 0])], ids=["stays", "moves"]
)
def test_the_sum_and_its_pruning_by_hand(second, want) -> None:
    """(1,1,0,0) is the mask of (4,-3,0,0); the clients' complements average to (0,0,1,-1), or to (0,0,4,-1)."""
    steps = (["flatten"], ["linear", 1], ["relu"], ["linear", 3])  # one layer of four weights is maskable
    fed = federation(method="cs")
    program, executor = executor_of(chain(SHAPE, steps), SHAPE, samples(SHAPE, 3, 40))
    fed = replace(fed, program=program, executor=executor)
    mask = torch.ones(program.size, dtype=torch.bool)
    mask[2:4] = False
    consensus.keep_masks(fed, [mask])
    base = torch.linspace(1, 2, program.size, dtype=torch.float64)
    round_ = round_of(fed, 1, clients=(0, 1), parameters=hand([4, -3, 0, 0], fed, base))
    first = 2 * base
    first[:4] = torch.tensor([5, -3, 2, 1], dtype=torch.float64)
    models = submodels(fed, [((0,), first), ((0,), hand(second, fed, base))])
    outcome = outcome_of(fed, round_, models=models)
    uploads = upload.held_entries(complement.travels)(fed, outcome)
    got = complement.pruned_sum(0.5, 1.5)(fed, outcome, uploads)
    assert got[:4].tolist() == want
    assert consensus.server_masks(fed)[0][:4].tolist() == [value != 0 for value in want]
    torch.testing.assert_close(got[4:], 1.5 * base[4:], rtol=1e-14, atol=1e-14)


def test_round_0_is_fedavg_then_pruning(tmp_path) -> None:
    own = model_of(tiny(tmp_path / "own", {"rounds": 1}, "cs").directory)
    other = model_of(tiny(tmp_path / "other", {"rounds": 1}, "fedavg").directory)
    layer, rest = slice(0, 64 * 12), slice(64 * 12, None)
    numpy.testing.assert_array_equal(own[rest], other[rest])
    left = own[layer] != 0
    assert left.sum() == 64 * 12 // 2
    numpy.testing.assert_array_equal(own[layer][left], other[layer][left])
    assert abs(other[layer][left]).min() >= abs(other[layer][~left]).max()


def test_without_pruning_the_weights_stay(tmp_path) -> None:
    """The complement is empty, whatever the server's rate; the rest is trained."""
    share = {"method.share": 0, "method.server_rate": 9}
    first, later = [model_of(tiny(tmp_path / str(n), {**share, "rounds": n}, "cs").directory) for n in (1, 3)]
    numpy.testing.assert_array_equal(first[: 64 * 12], later[: 64 * 12])
    assert (first[64 * 12 :] != later[64 * 12 :]).any()


def test_it_is_not_fedavg(tmp_path) -> None:
    own, other = (model_of(tiny(tmp_path / name, {"rounds": 3}, name).directory) for name in ("cs", "fedavg"))
    assert not numpy.array_equal(own, other)


def test_costs_of_a_dense_and_a_sparse_round() -> None:
    """4 x 4 and 4 x 3 weights, 16 of them maskable; 9 samples in 3 batches of 4."""
    fed = federation(method="cs")
    method = METHODS["cs"].build(METHODS["cs"].parameters(), fed.config)
    executed = (2 * 16 * 2 + 2 * 12 * 3) * 9
    for sparse in (False, True):
        if sparse:
            mask = torch.ones(35, dtype=torch.bool)
            mask[:10] = False
            consensus.keep_masks(fed, [mask])
        round_ = round_of(fed, int(sparse))
        cost = method.accounting(fed, round_, method.objective(fed, round_, method.download(fed, round_)))[0]
        forward = 2 * (6 if sparse else 16) + 4 + 2 * 12 + 3
        assert cost.flops_paper == 3 * forward * 12
        assert cost.flops_executed == executed
        assert cost.bytes_up == 4 * (10 + 19 if sparse else 35)
        assert cost.bytes_down == (4 * (6 + 19) + 2 if sparse else 4 * 35)


@pytest.mark.parametrize(("key", "value"), [("method.share", 1), ("method.share", -0.1), ("method.server_rate", -1)])
def test_parameters_out_of_range(tmp_path, key, value) -> None:
    with pytest.raises(InputError, match=key):
        tiny(tmp_path / "run", {key: value}, "cs")


def test_a_model_without_hidden_layers(tmp_path) -> None:
    with pytest.raises(InputError, match="before the output layer"):
        tiny(tmp_path / "run", {"model.hidden": []}, "cs")
