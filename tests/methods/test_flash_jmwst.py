"""FLASH with pruning and regrowing: one boundary by hand, the agreed mask, and when it is fedavg."""

import math

import numpy
import pytest
import torch

from fedlps.engine.cpu import CpuExecutor
from fedlps.engine.result import Submodels
from fedlps.errors import InputError
from fedlps.methods import METHODS, flash_jmwst, flash_spdst
from fedlps.recipe import aggregation, consensus, upload
from fedlps.recipe.consensus import BEFORE, MASKS
from fedlps.recipe.mask_accounting import course_of
from fedlps.recipe.prune_regrow import Course, PruneRegrow, boundaries, magnitude_shares, regrown
from fedlps.recipe.weight_masks import maskable, ones, recalibrated
from fedlps.run.store import RunStore
from tests.methods.widths import built
from tests.recipe.federations import federation, outcome_of, round_of
from tests.running import model_of, tiny

ONE = (slice(0, 100),)


def sparse(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """100 weights, of which the first 60 are kept, with magnitudes 1 .. 60, and two entries that no mask covers."""
    weights = torch.zeros(102, dtype=torch.float64)
    weights[:60] = torch.arange(1.0, 61) * torch.tensor([1.0, -1.0]).repeat(30)
    weights[100:] = 7
    mask = torch.ones(102, dtype=torch.bool)
    mask[60:100] = False
    return weights, mask


def test_one_boundary() -> None:
    """60 kept and a rate of 0.25: the 15 smallest go, 15 of the 55 zeros come in their place."""
    weights, mask = sparse()
    before = weights.clone(), mask.clone()
    change = PruneRegrow(ONE, 0.25, (0, 122, 4, 0, 0, 0))
    after, grown = change(weights, mask, None)
    assert torch.equal(weights, before[0]), "it is pure"
    assert torch.equal(mask, before[1]), "it is pure"
    assert int(grown[:100].sum()) == 60
    assert torch.equal(after[15:60], weights[15:60])
    assert (after[:15] == 0).all()
    assert (after[60:100] == 0).all()
    assert (after[100:] == 7).all()
    assert grown[15:60].all(), "the largest stay"
    again = change(weights, mask, None)
    assert torch.equal(again[1], grown)
    other = PruneRegrow(ONE, 0.25, (0, 122, 4, 0, 1, 0))(weights, mask, None)[1]
    assert not torch.equal(other, grown)


def test_equal_magnitudes_keep_the_lower_index() -> None:
    weights, mask = torch.ones(8), torch.ones(8, dtype=torch.bool)
    mask[6:] = False
    weights = weights * mask
    after, _ = PruneRegrow((slice(0, 8),), 0.5, (0, 122, 4, 0, 0, 0))(weights, mask, None)
    assert after.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


def test_shares_of_what_is_regrown() -> None:
    assert regrown([0.75, 0.25], 20, [100, 100]) == [15, 5]
    assert regrown([0.75, 0.25], 20, [10, 100]) == [9, 11], "0.99 of 10 zeros are 9, the other layer takes the rest"
    assert regrown([1.0, 0.0, 0.0], 9, [2, 100, 100]) == [1, 4, 4]
    weights = torch.tensor([3.0, -3.0, 0.0, 1.0, 5.0])
    mask = torch.tensor([True, True, False, True, False])
    assert magnitude_shares(weights, mask, (slice(0, 3), slice(3, 5))) == [0.75, 0.25]
    assert magnitude_shares(0 * weights, mask, (slice(0, 3), slice(3, 5))) == [0.5, 0.5]


def test_a_nearly_dense_layer_loses_no_more_than_it_has_zeros() -> None:
    """Two layers of ten: the first has one zero and the larger weights, so a tenth of nine goes at most."""
    weights = torch.cat([torch.full((10,), 5.0), torch.full((10,), 1.0)])
    mask = torch.ones(20, dtype=torch.bool)
    mask[9] = mask[19] = False
    places = (slice(0, 10), slice(10, 20))
    after, grown = PruneRegrow(places, 0.5, (0, 122, 4, 0, 0, 0))(weights * mask, mask, None)
    assert [int((after[place] != 0).sum()) for place in places] == [8, 4]
    assert int(grown.sum()) == 18


def test_when_masks_change() -> None:
    assert boundaries(3, 4) == [4, 8]
    assert boundaries(1, 5) == [2]
    assert boundaries(1, 1) == [0]
    fed = federation({"epochs": 4}, method="flash-jmwst")
    recipe = METHODS["flash-jmwst"]
    method = recipe.build(recipe.parameters(density=0.5, interval=2, first_epochs=1), fed.config)
    assert method.prologue is not None
    start = method.prologue(fed, round_of(fed).global_parameters)
    for number, rates in ((1, [0.1875, 0.125, 0.0625]), (2, [])):
        round_ = round_of(fed, number, parameters=start)
        plan = method.objective(fed, round_, method.download(fed, round_))
        segments = plan.jobs[0].segments
        assert [segment.after.rate for segment in segments[:-1]] == rates
        assert [segment.steps for segment in segments] == [3] * len(rates) + [None]
        assert [segment.carry_velocity for segment in segments] == [False] + [True] * len(rates)
        assert segments[-1].after is None
        ups = [cost.bytes_up for cost in method.accounting(fed, round_, plan)]
        downs = [cost.bytes_down for cost in method.accounting(fed, round_, plan)]
        sign = 1 if number == 1 else -1
        assert [up - down for up, down in zip(ups, downs, strict=True)] == [2 * sign] * 4, "16 bits of the mask"


def test_the_agreed_mask() -> None:
    """Section 23's numbers: clients keep 2 and 4 of 5, density 0.4."""
    mean = torch.tensor([0.9, -0.1, 0.5, 0.0, 0.3])
    assert recalibrated(mean, (slice(0, 5),), [3.0], 0.4).tolist() == [True, False, True, False, False]
    assert int(recalibrated(mean, (slice(0, 5),), [3.0], 1.0).sum()) == 3, "never more than the clients have"


def test_the_masks_follow_the_training(tmp_path) -> None:
    run = tiny(tmp_path / "run", {"method.density": 0.3, "epochs": 2}, "flash-jmwst")
    for name in ("mask_mismatch", "mask_mismatch_pairs", "mask_mismatch_server", "mask_mismatch_rounds"):
        assert (run.metrics[name] > 0).all()
        assert (run.metrics[name] < 1).all()
    assert (run.metrics["mask_mismatch"] == run.metrics["mask_mismatch_pairs"]).all(), "two clients are one pair"
    assert (run.metrics["density"] <= 0.3).all()
    whole = 4 * len(model_of(run.directory)) * 2 * numpy.arange(1, 5)
    numpy.testing.assert_allclose(run.metrics["communication_saved"], whole / run.metrics["bytes_up"])
    assert (run.metrics["communication_saved"] > 1).all()


def test_nothing_pruned_and_dense_is_fedavg_with_equal_weights(tmp_path) -> None:
    off = {"method.density": 1, "method.prune_rate": 0, "epochs": 2}
    own = tiny(tmp_path / "own", off, "flash-jmwst")
    other = tiny(tmp_path / "fedavg", {"aggregation.rule": "uniform", "epochs": 2}, "fedavg")
    numpy.testing.assert_array_equal(model_of(own.directory), model_of(other.directory))
    sparse = tiny(tmp_path / "sparse", None, "flash-jmwst")
    assert not numpy.array_equal(model_of(sparse.directory), model_of(other.directory))


@pytest.mark.parametrize(("seed", "fits"), [(0, True), (3, False)])
def test_nothing_pruned_keeps_the_first_mask_or_its_largest_weights(tmp_path, monkeypatch, seed, fits) -> None:
    """Seed 3 draws a mask above the density, which the first agreement cuts."""
    monkeypatch.setattr(flash_jmwst, "NUMBER", flash_spdst.NUMBER)
    given = {"method.density": 0.3, "rounds": 2, "seed": seed}
    frozen = tiny(tmp_path / "spdst", given, "flash-spdst")
    own = tiny(tmp_path / "jmwst", {**given, "method.prune_rate": 0}, "flash-jmwst")
    assert (frozen.metrics["density"][0] <= 0.3) == fits
    first, later, before = masks_of(frozen.directory), masks_of(own.directory), masks_of(own.directory, BEFORE)
    assert torch.equal(before, later), "cut once"
    assert not (later & ~first).any()
    if fits:
        assert torch.equal(later, first)
        numpy.testing.assert_array_equal(model_of(own.directory), model_of(frozen.directory))
    else:
        assert int(later[:768].sum()) == 230, "0.3 of 768"


def masks_of(directory, name: str = MASKS) -> torch.Tensor:
    with RunStore.read(directory) as store:
        packed = store.get_tensor(name)
    return torch.from_numpy(numpy.unpackbits(packed, count=len(model_of(directory)))).bool()


@pytest.mark.parametrize("sensitivity", ["clients", "aggregate"])
@pytest.mark.parametrize("density", [0.1, 0.35, 0.8])
def test_a_layer_keeps_exactly_its_budget(sensitivity, density) -> None:
    """And all together no more than the density allows."""
    fed, _ = built("flash-jmwst", (4, 5))
    places = maskable(fed.program)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        round_ = round_of(fed, parameters=torch.zeros(fed.program.size).double())
        masks = torch.rand((4, fed.program.size), generator=generator) < torch.rand(1, generator=generator)
        for layer in fed.program.layers:
            masks[:, layer.bias : layer.bias + layer.rows] = True
        values = torch.where(masks, torch.randn(masks.shape, generator=generator, dtype=torch.float64), 0)
        table = torch.tensor([fed.all_counts] * 4, dtype=torch.int32)
        outcome = outcome_of(fed, round_, models=Submodels(fed.all_units.repeat(4, 1), table, values))
        outcome.result.probes["mask"] = list(masks)
        consensus.keep_masks(fed, [masks.any(0)])
        uploads = upload.held_entries(consensus.everything)(fed, outcome)
        consensus.agreed(aggregation.residuals("uniform"), [density], False, sensitivity)(fed, outcome, uploads)
        asked = [
            masks[:, place].sum() / 4 if sensitivity == "clients" else masks.any(0)[place].sum() for place in places
        ]
        allowed = density * sum(place.stop - place.start for place in places)
        scale = min(1, allowed / float(sum(asked)))
        kept = ones(consensus.server_masks(fed)[0], places)
        assert kept == [math.floor(float(own) * scale + 1e-9) for own in asked]
        assert sum(kept) <= allowed


def test_growth_is_corrected_towards_the_density() -> None:
    """Of a target of 100, 96 and then 102 are left: 0.75 * 4 + 4, then 0.25 * 7 - 0.75 * 2 + (4 - 2) / 2."""
    course = Course({0: [90, 6], 1: [92, 10]})
    assert [course.correction(boundary, 100) for boundary in range(3)] == pytest.approx([0, 7, 1.25])
    size = 10_000
    weights = torch.arange(1.0, size + 1)
    mask = torch.arange(size) < 6000
    weights[6000:] = 0
    grown = {}
    for kept, target in ((5900, None), (5900, 6000.0), (6300, 6000.0)):
        course = Course({0: [kept]})
        _, after = PruneRegrow((slice(0, size),), 0.25, (0, 122, 4, 0, 0, 1), course, target)(weights, mask, None)
        assert course.kept[1] == [int(after.sum())]
        grown[kept, target] = int(after.sum()) - 4500
    assert grown[5900, None] == 1500
    assert abs(grown[5900, 6000.0] - (1500 + 175)) < 130, "on average, four deviations"
    assert abs(grown[6300, 6000.0] - (1500 - 525)) < 130


def test_the_correction_is_an_option(tmp_path) -> None:
    given = {"method.density": 0.3, "epochs": 4, "rounds": 2}
    runs = [
        tiny(tmp_path / str(exact), {**given, "method.exact_count": exact}, "flash-jmwst") for exact in (True, False)
    ]
    assert not numpy.array_equal(model_of(runs[0].directory), model_of(runs[1].directory))


def test_costs_follow_the_mask_during_training() -> None:
    """Two maskable layers of 16; after each of three boundaries other counts, which pay from there on."""
    fed, method = built("flash-jmwst", (4, 4), {"epochs": 4}, density=0.5, first_epochs=1)
    assert method.prologue is not None
    start = method.prologue(fed, round_of(fed, parameters=torch.ones(fed.program.size).double()).global_parameters)
    round_ = round_of(fed, clients=(0,), parameters=start)
    plan = method.objective(fed, round_, method.download(fed, round_))
    first = ones(plan.jobs[0].hold.mask, maskable(fed.program))
    left = [[7, 10], [9, 8], [3, 15]]
    for number, segment in enumerate(plan.jobs[0].segments[:-1]):
        segment.after.course.kept[number] = left[number]
    (cost,) = method.accounting(fed, round_, plan)
    forward = [2 * a + 4 + 2 * b + 4 + 2 * 12 + 3 for a, b in [first, *left]]
    assert cost.flops_paper == 3 * 12 * sum(forward), "an epoch each, three batches of four"
    dense = 4 * 9 * (2 * 2 * 16 + 3 * 2 * 16 + 3 * 2 * 12)
    assert cost.flops_executed == dense + 3 * fed.program.size, "each boundary scores all parameters"
    rest = 4 + 4 + 12 + 3
    assert cost.bytes_down == 4 * (sum(first) + rest) + 4
    assert cost.bytes_up == 4 * (18 + rest) + 4, "what the last boundary left, and 32 bits of mask"


def test_the_boundaries_note_what_they_leave(tmp_path, monkeypatch) -> None:
    """Of every plan of a run: the last note is the mask that the client ends with."""
    seen = []
    train = CpuExecutor.train

    def noted(self, parameters, plan, batches):
        result = train(self, parameters, plan, batches)
        for job, mask in zip(plan.jobs, result.probes["mask"], strict=True):
            seen.append((course_of(job).kept, int(mask[:768].sum()), len(job.segments)))
        return result

    monkeypatch.setattr(CpuExecutor, "train", noted)
    tiny(tmp_path / "run", {"method.density": 0.3, "epochs": 3, "rounds": 2, "method.first_epochs": 2}, "flash-jmwst")
    assert [sorted(kept) for kept, _, _ in seen] == [[0]] + [[0, 1]] * 4
    assert all(kept[segments - 2] == [mask] for kept, mask, segments in seen)


def test_bad_input(tmp_path) -> None:
    with pytest.raises(InputError, match=r"method.interval: got 0"):
        tiny(tmp_path / "a", {"method.interval": 0}, "flash-jmwst")
    with pytest.raises(InputError, match=r"method.sensitivity: got"):
        tiny(tmp_path / "b", {"method.sensitivity": "server"}, "flash-jmwst")
