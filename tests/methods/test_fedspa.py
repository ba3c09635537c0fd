"""FedSpa: densities, the moving mask, the mean of masked updates, and its cost."""

from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.errors import InputError
from fedlps.methods import METHODS
from fedlps.recipe import drop_grow, personal_mask
from fedlps.run.store import RunStore
from tests.recipe.federations import federation, outcome_of, round_of, submodels
from tests.running import model_of, tiny


def test_kernel_densities() -> None:
    """conv (8,4,3,3) and fc (16,32) at a half; then a conv (4,1,3,3), which would exceed 1."""
    plain = drop_grow.spread([18, 48], [288, 512], 0.5)
    assert plain == pytest.approx([0.378788, 0.568182], abs=1e-6)
    dense = drop_grow.spread([11, 48], [36, 512], 0.5)
    assert dense == pytest.approx([1, 0.464844], abs=1e-6)
    assert drop_grow.spread([11, 48], [36, 512], 1.0) == pytest.approx([1, 1])
    for densities, sizes, counts in ((plain, (288, 512), (109, 291)), (dense, (36, 512), (36, 238))):
        places = (slice(0, sizes[0]), slice(sizes[0], sum(sizes)))
        mask = drop_grow.drawn_mask(sum(sizes) + 5, places, densities, numpy.random.default_rng(0))
        assert tuple(int(mask[place].sum()) for place in places) == counts
        assert mask[-5:].all()


def test_the_rate_is_annealed() -> None:
    rates = [drop_grow.annealed(0.5, number, 100) for number in (0, 25, 50, 75, 100)]
    assert rates == pytest.approx([0.5, 0.426777, 0.25, 0.073223, 0], abs=1e-6)
    weights, gradient = torch.arange(1, 201, dtype=torch.float64), torch.arange(200, dtype=torch.float64)
    mask = torch.arange(200) < 100  # the largest gradients are all outside
    for rate, moved in zip(rates, (50, 43, 25, 8, 0), strict=True):
        kept, new = drop_grow.DropGrow((slice(0, 200),), rate)(weights, mask, gradient)
        assert kept is weights
        assert int(new.sum()) == 100
        assert torch.equal(new.nonzero()[:, 0], torch.cat([torch.arange(moved, 100), torch.arange(200 - moved, 200)]))


def test_what_was_dropped_may_return_and_ties_go_to_the_lower_index() -> None:
    change = drop_grow.DropGrow((slice(0, 6),), 0.5)
    weights = torch.tensor([1.0, -5, 1, 2, 0, 0, 7])
    mask = torch.tensor([True, True, True, True, False, False, True])
    gradient = torch.tensor([3.0, 9, -3, 0, 1, 1, 0])
    assert change(weights, mask, gradient)[1].tolist() == [True, True, True, True, False, False, True]
    gradient = torch.tensor([0.0, 9, 3, 0, -3, 3, 0])
    assert change(weights, mask, gradient)[1].tolist() == [False, True, True, True, True, False, True]
    assert mask.tolist() == [True, True, True, True, False, False, True], "it is not changed in place"
    with pytest.raises(ValueError, match="after_gradient"):
        change(weights, mask, None)


def test_the_server_adds_the_mean_of_masked_updates() -> None:
    """w = 1; masks (1,0), (1,1): trained (3,.), (5,7): 1 + (2 + 4) / 2 and 1 + 6 / 2."""
    fed = federation(method="fedspa")
    method = METHODS["fedspa"].build(METHODS["fedspa"].parameters(), fed.config)
    round_ = round_of(fed, clients=(0, 1), parameters=torch.ones(35, dtype=torch.float64))
    masks = torch.ones((2, 35), dtype=torch.bool)
    masks[0, 1] = False
    values = torch.ones((2, 35), dtype=torch.float64)
    values[0, 0], values[1, 0], values[1, 1], values[0, 1] = 3, 5, 7, 0
    for client in range(2):
        fed.store.put_client(client, personal_mask.PART, {"mask": numpy.packbits(masks[client].numpy())})
    plan = method.objective(fed, round_, method.download(fed, round_))
    assert plan.jobs[0].start.tolist() == masks[0].double().tolist()
    outcome = outcome_of(fed, round_, models=submodels(fed, [((0, 1, 2, 3), vector) for vector in values]))
    outcome = replace(outcome, plan=plan)
    assert method.aggregation(fed, outcome, method.upload(fed, outcome))[:3].tolist() == [4, 4, 1]


def test_masks_differ_move_and_keep_their_size(tmp_path) -> None:
    stored = {}
    for rounds in (1, 3):
        overrides = {"rounds": 3, "fraction": 1.0, "model.hidden": [12, 8]}
        run = tiny(tmp_path / str(rounds), {**overrides, "rounds": rounds}, "fedspa")
        with RunStore.read(run.directory) as store:
            stored[rounds] = [numpy.unpackbits(store.get_client(c, "mask")["mask"]) for c in range(4)]
    first, second = slice(0, 768), slice(780, 780 + 96)  # behind 12 biases
    for early, late in zip(stored[1], stored[3], strict=True):
        assert (early != late).any()
        assert [early[place].sum() for place in (first, second)] == [late[place].sum() for place in (first, second)]
        assert late[768:780].all()
    assert abs(int(stored[3][0][first].sum() + stored[3][0][second].sum()) - 432) <= 1
    assert (stored[3][0] != stored[3][1]).any()


def test_at_density_1_it_is_fedavg_with_equal_weights(tmp_path) -> None:
    own = tiny(tmp_path / "own", {"rounds": 3, "method.density": 1}, "fedspa")
    other = tiny(tmp_path / "other", {"rounds": 3, "aggregation.rule": "uniform"}, "fedavg")
    numpy.testing.assert_array_equal(model_of(own.directory), model_of(other.directory))
    with RunStore.read(own.directory) as store:
        masks = [store.get_client(client, "mask")["mask"] for client in store.clients("mask")]
    assert masks
    assert all(numpy.unpackbits(mask, count=len(model_of(own.directory))).all() for mask in masks)
    sparse = tiny(tmp_path / "sparse", {"rounds": 3}, "fedspa")
    assert not numpy.array_equal(model_of(sparse.directory), model_of(other.directory))


def test_costs_by_hand() -> None:
    """8 of 16 maskable weights and 19 others; one dense batch of 4 samples for the gradient."""
    fed = federation(method="fedspa")
    method = METHODS["fedspa"].build(METHODS["fedspa"].parameters(), fed.config)
    round_ = round_of(fed)
    cost = method.accounting(fed, round_, method.objective(fed, round_, method.download(fed, round_)))[0]
    assert cost.bytes_up == 4 * (8 + 19) + 2
    assert cost.bytes_down == 4 * (8 + 19)
    assert cost.flops_paper == 3 * (2 * 8 + 4 + 2 * 12 + 3) * 12
    assert cost.flops_executed == (2 * 16 * 2 + 2 * 12 * 3) * (9 + 4)


@pytest.mark.parametrize(("key", "value"), [("method.density", 0), ("method.density", 1.1), ("method.rate", -0.1)])
def test_parameters_out_of_range(tmp_path, key, value) -> None:
    with pytest.raises(InputError, match=key):
        tiny(tmp_path / "run", {key: value}, "fedspa")


def test_a_model_without_hidden_layers(tmp_path) -> None:
    with pytest.raises(InputError, match="before the output layer"):
        tiny(tmp_path / "run", {"model.hidden": []}, "fedspa")
