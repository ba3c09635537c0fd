"""Hetero-FLASH: levels, masks inside each other, the mean over holders, and when it is FLASH."""

import numpy
import pytest
import torch

from fedlps.errors import InputError
from fedlps.methods import METHODS, flash_jmwst, flash_spdst, hetero_flash
from fedlps.recipe import aggregation, consensus, upload
from fedlps.recipe.weight_masks import ones, recalibrated
from tests.recipe.federations import federation, outcome_of, round_of, submodels
from tests.running import model_of, tiny


def test_levels_by_capability() -> None:
    assert [hetero_flash.level(speed) for speed in (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16)] == [0, 1, 1, 2, 2]


def test_budgets_of_the_levels() -> None:
    """Section 24's numbers: 400 of 1000 are not 0, density 0.2; the masks lie inside each other."""
    mean = torch.zeros(1000)
    mean[torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:400]] = torch.randn(400)
    masks = [recalibrated(mean, (slice(0, 1000),), [400], level * 0.2) for level in (1, 0.75, 0.5)]
    assert [int(mask.sum()) for mask in masks] == [200, 150, 100]
    assert not (masks[1] & ~masks[0]).any()
    assert not (masks[2] & ~masks[1]).any()


def test_the_mean_over_holders() -> None:
    """Section 24's numbers: masks (1, 1), (1, 0), values (2, 4), (6, 0); and what nobody holds is 0."""
    fed = federation(method="hetero-flash")
    received = torch.full((35,), 3.0, dtype=torch.float64)
    round_ = round_of(fed, clients=(0, 1), parameters=received)
    masks, models = torch.zeros((2, 35), dtype=torch.bool), torch.zeros((2, 35), dtype=torch.float64)
    masks[:, 16:] = True
    masks[0, :2] = masks[1, :1] = True
    models[0, :2], models[1, :1] = torch.tensor([2.0, 4.0]), 6.0
    models[0, 16:], models[1, 16:] = 1.0, 2.0
    outcome = outcome_of(fed, round_, models=submodels(fed, [([0, 1, 2, 3], own) for own in models]))
    outcome.result.probes["mask"] = list(masks)
    consensus.keep_masks(fed, [torch.ones(35, dtype=torch.bool)])
    uploads = upload.held_entries(consensus.trained_mask)(fed, outcome)
    agreed = consensus.agreed(aggregation.residuals("uniform_holders"), [1.0], False, "aggregate")
    mean = agreed(fed, outcome, uploads)
    torch.testing.assert_close(mean[:3], torch.tensor([4.0, 4.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(mean[16:], torch.full((19,), 1.5, dtype=torch.float64))
    assert ones(consensus.server_masks(fed)[0], (slice(0, 16),)) == [2]
    every = upload.held_entries(consensus.everything)(fed, outcome)
    plain = consensus.agreed(aggregation.residuals("uniform"), [1.0], False, "aggregate")(fed, outcome, every)
    torch.testing.assert_close(plain[:3], torch.tensor([4.0, 2.0, 0.0], dtype=torch.float64))


def test_weaker_devices_hold_less_and_pay_less() -> None:
    fed = federation(method="hetero-flash")
    recipe = METHODS["hetero-flash"]
    method = recipe.build(recipe.parameters(), fed.config)
    masks = torch.ones((3, 35), dtype=torch.bool)
    masks[0, 8:16] = masks[1, 6:16] = masks[2, 4:16] = False
    consensus.keep_masks(fed, list(masks))
    round_ = round_of(fed, capabilities=(1, 0.25, 0.125, 0.5))
    plan = method.objective(fed, round_, method.download(fed, round_))
    kept = [8, 6, 4, 6]
    for job, count in zip(plan.jobs, kept, strict=True):
        assert job.start is not None
        assert int(job.hold.mask.sum()) == int((job.start != 0).sum()) == count + 19
    costs = method.accounting(fed, round_, plan)
    assert [cost.bytes_up for cost in costs] == [4 * (count + 19) + 2 for count in kept]
    assert [cost.flops_paper for cost in costs] == [36 * (2 * count + 4 + 24 + 3) for count in kept]


ALL = {"method.density": 0.3, "rounds": 3, "epochs": 2}


def test_full_levels_are_jmwst_with_the_mean_over_holders(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hetero_flash, "NUMBER", flash_jmwst.NUMBER)
    own = tiny(tmp_path / "own", {**ALL, "method.levels": [1, 1, 1]}, "hetero-flash")
    options = {"method.sensitivity": "aggregate", "method.average": "holders"}
    other = tiny(tmp_path / "jmwst", {**ALL, **options}, "flash-jmwst")
    numpy.testing.assert_array_equal(model_of(own.directory), model_of(other.directory))
    levels = tiny(tmp_path / "levels", ALL, "hetero-flash")
    assert not numpy.array_equal(model_of(levels.directory), model_of(other.directory))


def test_full_frozen_levels_are_spdst(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hetero_flash, "NUMBER", flash_spdst.NUMBER)
    frozen = {**ALL, "method.base": "spdst"}
    own = tiny(tmp_path / "own", {**frozen, "method.levels": [1, 1, 1]}, "hetero-flash")
    other = tiny(tmp_path / "spdst", ALL, "flash-spdst")
    numpy.testing.assert_array_equal(model_of(own.directory), model_of(other.directory))
    levels = tiny(tmp_path / "levels", frozen, "hetero-flash")
    assert (levels.metrics["mask_mismatch_rounds"] == 0).all()


def test_of_equal_masks_the_mean_over_holders_is_the_plain_mean() -> None:
    fed = federation(method="hetero-flash")
    round_ = round_of(fed, parameters=torch.zeros(35, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(35, generator=generator) < 0.5
    mask[16:] = True
    values = torch.where(mask, torch.randn((4, 35), generator=generator, dtype=torch.float64), 0)
    outcome = outcome_of(fed, round_, models=submodels(fed, [([0, 1, 2, 3], own) for own in values]))
    outcome.result.probes["mask"] = [mask] * 4
    consensus.keep_masks(fed, [mask])
    means = []
    for travels, rule in ((consensus.trained_mask, "uniform_holders"), (consensus.everything, "uniform")):
        average = consensus.agreed(aggregation.residuals(rule), [1.0], False, "aggregate")
        means.append(average(fed, outcome, upload.held_entries(travels)(fed, outcome)))
    torch.testing.assert_close(means[0], means[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(means[0], values.mean(0), rtol=1e-12, atol=1e-12)


def test_growth_is_corrected_towards_the_density_of_the_level() -> None:
    """In round 0 everyone's is the highest."""
    fed = federation({"epochs": 2}, method="hetero-flash")
    recipe = METHODS["hetero-flash"]
    method = recipe.build(recipe.parameters(density=0.5, exact_count=False), fed.config)
    consensus.keep_masks(fed, [torch.ones(35, dtype=torch.bool)] * 3)
    for number, wanted in ((0, [8, 8, 8, 8]), (1, [8, 6, 4, 6])):
        round_ = round_of(fed, number, capabilities=(1, 0.25, 0.125, 0.5))
        plan = method.objective(fed, round_, method.download(fed, round_))
        assert [job.segments[0].after.target for job in plan.jobs] == wanted


def test_bad_input(tmp_path) -> None:
    for levels in ([0.75, 1, 0.5], [1, 0.5, 0.75], [1, 0.5, 0]):
        with pytest.raises(InputError, match=r"method\.levels"):
            tiny(tmp_path / "run", {"method.levels": levels}, "hetero-flash")
