"""FLASH with one frozen mask: the first stage, the layers' densities, what travels."""

import numpy
import pytest
import torch

from fedlps.errors import InputError
from fedlps.methods import METHODS
from fedlps.models import chain
from fedlps.program import initial_parameters
from fedlps.randomness import Purpose, stream
from fedlps.recipe.consensus import MASKS, server_masks
from fedlps.recipe.first_stage import COST
from fedlps.recipe.mask_accounting import course_of
from fedlps.recipe.mask_metrics import mismatch
from fedlps.recipe.weight_masks import balanced, maskable, ones, random_mask
from fedlps.run.store import RunStore
from fedlps.trace import derive
from tests.methods.widths import built
from tests.recipe.federations import SHAPE, STEPS, federation, round_of
from tests.running import model_of, tiny


def test_densities_of_the_layers() -> None:
    """Section 22's numbers: clients with densities (.4, .2, .1) and (.6, .2, .1), 0.1 of all wanted."""
    places = (slice(0, 100), slice(110, 410), slice(500, 1100))
    got = balanced(places, [0.5, 0.2, 0.1], 0.1)
    numpy.testing.assert_allclose(got, [0.294118, 0.117647, 0.058824], atol=1e-6)
    expected = [100 * got[0], 300 * got[1], 600 * got[2]]
    numpy.testing.assert_allclose(expected, [29.41, 35.29, 35.29], atol=0.005)
    assert balanced(places, [0.5, 0.2, 0.1], 0.9)[0] == 1, "cut at 1, not spread over the others"


def test_a_random_mask_keeps_what_is_no_weight() -> None:
    mask = random_mask(1000, (slice(0, 400), slice(500, 900)), [0.25, 1.0], numpy.random.default_rng(0))
    assert 70 < int(mask[:400].sum()) < 130
    assert mask[400:].all()


def test_masks_disagree_by_jaccard() -> None:
    """Section 28's numbers."""
    sets = [torch.tensor([i in own for i in range(8)]) for own in ({0, 1, 2, 3}, {2, 3, 4, 5}, {2, 3, 6, 7})]
    assert mismatch(*sets[:2]) == pytest.approx(2 / 3)
    assert mismatch(*sets) == 0.75
    assert mismatch(torch.zeros(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)) == 0


def test_one_mask_for_all_rounds(tmp_path) -> None:
    run = tiny(tmp_path / "run", {"method.density": 0.3}, "flash-spdst")
    for name in ("mask_mismatch", "mask_mismatch_pairs", "mask_mismatch_server", "mask_mismatch_rounds"):
        assert (run.metrics[name] == 0).all()
    assert len(set(run.metrics["density"])) == 1
    assert 0.2 < run.metrics["density"][0] < 0.4
    with RunStore.read(run.directory) as store:
        packed = store.get_tensor(MASKS)
    assert packed is not None
    mask = numpy.unpackbits(packed, axis=1, count=len(model_of(run.directory))).astype(bool)[0]
    assert (model_of(run.directory)[~mask] == 0).all()


def test_a_dense_mask_is_fedavg_with_equal_weights(tmp_path) -> None:
    own = tiny(tmp_path / "own", {"method.density": 1}, "flash-spdst")
    other = tiny(tmp_path / "fedavg", {"aggregation.rule": "uniform"}, "fedavg")
    numpy.testing.assert_array_equal(model_of(own.directory), model_of(other.directory))
    sparse = tiny(tmp_path / "sparse", None, "flash-spdst")
    assert not numpy.array_equal(model_of(sparse.directory), model_of(other.directory))


def test_costs() -> None:
    """16 maskable weights and 19 other parameters; the mask's two bytes travel once per client."""
    fed = federation({"method.density": 0.5, "method.first_share": 0.5, "method.first_epochs": 3}, method="flash-spdst")
    recipe = METHODS["flash-spdst"]
    method = recipe.build(recipe.parameters(density=0.5, first_share=0.5, first_epochs=3), fed.config)
    assert method.prologue is not None
    start = method.prologue(fed, round_of(fed).global_parameters)
    mask = server_masks(fed)[0]
    kept = int(mask[maskable(fed.program)[0]].sum())
    assert 0 < kept < 16
    assert torch.equal(start != 0, mask)
    round_ = round_of(fed, parameters=start)
    plan = method.objective(fed, round_, method.download(fed, round_))
    fed.store.put_client(2, "took_part", {"round": numpy.array([0])})
    costs = method.accounting(fed, round_, plan)
    assert [cost.bytes_up for cost in costs] == [cost.bytes_down for cost in costs]
    assert [cost.bytes_up - 4 * (kept + 19) for cost in costs] == [2, 2, 0, 2]
    # 9 samples make 3 batches of 4 by the paper's count; forward per sample 2 per weight and 1 per unit
    assert costs[0].flops_paper == 3 * 12 * (2 * kept + 4 + 2 * 12 + 3)
    spent = fed.store.get_tensor(COST)
    assert spent is not None
    assert spent[2] == 2 * 2, "two clients send their masks"
    dense = 3 * 9 * (2 * 2 * 16 + 3 * 2 * 12)
    assert spent[1] == 2 * (dense + 2 * 35), "two clients, three epochs of nine samples, two boundaries"


def test_the_first_stage_pays_by_the_mask_of_each_epoch(monkeypatch) -> None:
    """Two layers of 16 that gain and lose weights; two clients, four epochs of three batches of four."""
    fed, method = built("flash-spdst", (4, 4), density=0.5, first_share=0.5, first_epochs=4)
    plans, train = [], fed.executor.train

    def noted(parameters, plan, batches):
        plans.append(plan)
        return train(parameters, plan, batches)

    monkeypatch.setattr(fed.executor, "train", noted)
    assert method.prologue is not None
    method.prologue(fed, torch.from_numpy(initial_parameters(fed.program, 0)))
    wanted, seen = 0, set()
    for job in plans[0].jobs:
        masks = [ones(job.hold.mask, maskable(fed.program)), *course_of(job).kept.values()]
        assert len(masks) == 4
        seen |= set(map(tuple, masks))
        wanted += sum(3 * 12 * (2 * a + 4 + 2 * b + 4 + 2 * 12 + 3) for a, b in masks)
    assert len(seen) > 1, "else the case shows nothing"
    assert fed.store.get_tensor(COST)[0] == wanted


def test_without_a_first_stage_all_layers_are_equally_dense() -> None:
    recipe = METHODS["flash-spdst"]
    fed = federation(method="flash-spdst")
    method = recipe.build(recipe.parameters(density=0.5, first_epochs=0), fed.config)
    assert method.prologue is not None
    start = method.prologue(fed, round_of(fed).global_parameters)
    drawn = stream(fed.config.seed, Purpose.METHOD + 21, 3, 0, 0)
    assert torch.equal(server_masks(fed)[0], random_mask(35, (slice(0, 16),), [0.5], drawn))
    assert torch.equal(start != 0, server_masks(fed)[0])
    assert fed.store.get_tensor(COST) is None, "nobody has trained"


def test_bad_input(tmp_path) -> None:
    with pytest.raises(InputError, match=r"method.density: got 0"):
        tiny(tmp_path / "a", {"method.density": 0}, "flash-spdst")
    with pytest.raises(InputError, match=r"no convolution before the output layer.*method\.conv_only=false"):
        tiny(tmp_path / "b", {"method.conv_only": True}, "flash-spdst")
    with pytest.raises(InputError, match="no layer before the output layer"):
        maskable(derive(chain(SHAPE, (["flatten"], ["linear", 3])), SHAPE))
    assert maskable(derive(chain(SHAPE, STEPS), SHAPE)) == (slice(0, 16),)
