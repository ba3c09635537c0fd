"""FedLPS: what its parts are, and what its clients keep."""

import numpy
import pytest

from fedlps.engine.plan import Hold, Job
from fedlps.methods import METHODS
from fedlps.recipe import evaluation, ratio
from fedlps.run.store import RunStore
from tests.recipe.federations import federation, round_of
from tests.running import tiny


def build(overrides: dict[str, object] | None = None):
    fed = federation(overrides)
    recipe = METHODS["fedlps"]
    return fed, recipe.build(recipe.parameters(), fed.config)


def test_the_pull_is_that_of_equation_7() -> None:
    for norm, coefficient in (("mean", 2 * 0.5 / 35), ("sum", 2 * 0.5)):
        optimiser = {"momentum": 0.3, "clip": 2, "weight_decay": 0.1}
        fed, method = build({"objective.mu": 0.5, "objective.norm": norm, **optimiser})
        round_ = round_of(fed, ratios=0.5)
        plan = method.objective(fed, round_, method.download(fed, round_))
        assert len(plan.jobs) == 4
        for position, job in enumerate(plan.jobs):
            assert job.client == position
            assert job.start is None
            assert job.pulls[0].coefficient == coefficient
            assert job.pulls[0].reference is round_.global_parameters
            (segment,) = job.segments
            assert (segment.lr, segment.momentum, segment.weight_decay, segment.clip) == (0.1, 0.3, 0.1, 2)
    fed, method = build({"objective.mu": 0})
    round_ = round_of(fed)
    assert not any(job.pulls for job in method.objective(fed, round_, method.download(fed, round_)).jobs)


def test_the_default_parts() -> None:
    fed, method = build()
    assert isinstance(method.ratio, ratio.BanditPerClient)
    job = Job(0, Hold(fed.all_counts, fed.all_units), ())
    assert method.accounting.up(fed, round_of(fed), 0, job) == 4 * 35 + 1, "the pattern travels: 4 units in a byte"
    assert isinstance(method.evaluation, evaluation.PersonalModels)
    assert [kept.part for kept in method.state] == ["importance"]


@pytest.mark.parametrize("pattern", ["first", "magnitude", "random"])
def test_other_patterns_keep_no_importance(tmp_path, pattern) -> None:
    run = tiny(tmp_path / "run", {"importance.pattern": pattern, "ratio.rule": 0.5, "rounds": 1})
    with RunStore.read(run.directory) as store:
        assert store.clients("importance") == []
        trained = store.clients("last")
        assert len(trained) == 2
        kept = [store.get_client(client, "last")["kept"] for client in trained]
    for units in kept:
        assert (units >= 0).sum() == 6
        if pattern == "first":
            assert units[:6].tolist() == list(range(6))
    assert (kept[0] == kept[1]).all() == (pattern != "random")


def test_a_clients_importance_goes_on_where_it_was(tmp_path) -> None:
    """The second participation starts from the d that the first one left."""
    run = tiny(tmp_path / "run", {"fraction": 1.0, "rounds": 2, "ratio.rule": 0.5})
    short = tiny(tmp_path / "short", {"fraction": 1.0, "rounds": 1, "ratio.rule": 0.5})
    with RunStore.read(run.directory) as after, RunStore.read(short.directory) as before:
        assert after.clients("importance") == before.clients("importance") == [0, 1, 2, 3]
        for client in range(4):
            old = before.get_client(client, "importance")["redundancy"]
            new = after.get_client(client, "importance")["redundancy"]
            assert old.shape == new.shape == (12,)
            assert old.dtype == numpy.float32
            assert (old != new).any()
            assert ((new > 0) & (new < 1)).all()
