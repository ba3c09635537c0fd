"""FjORD: a width drawn for every step, and the widest model as its teacher."""

from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.cost import executed_flops, submodel_weights
from fedlps.engine.cohort import cohort
from fedlps.errors import InputError
from fedlps.randomness import stream
from tests.methods.widths import COSTS, FULL, aggregated, built, costs, kept, started
from tests.running import model_of, tiny

FIXED: dict[str, object] = {"capability.levels": [0.5], "method.widths": [0.5], "method.kd": False, "rounds": 1}


def passes_of(fed, method, round_):
    return [job.segments[0].passes for job in method.objective(fed, round_, method.download(fed, round_)).jobs]


def test_the_width_of_every_step_is_drawn_from_those_that_fit() -> None:
    fed, method = built("fjord", (16, 32), {"epochs": 5, "seed": 2}, kd=False)
    seen = set()
    for number in (0, 1):
        for client, (one,) in enumerate(passes_of(fed, method, started(fed, method, (1 / 4, 1 / 4), number))):
            draws = stream(2, 107, 0, number, client).random(15)  # 9 samples by 4: 3 steps an epoch
            assert one.widths == tuple(((1, 2), (2, 4), (4, 8))[int(3 * u)] for u in draws)
            assert one.teacher is None
            seen.add(one.widths)
    assert len(seen) == 4
    assert {width for widths in seen for width in widths} == {(1, 2), (2, 4), (4, 8)}


def test_the_widest_teaches_where_a_narrower_one_is_drawn() -> None:
    fed, method = built("fjord", (16,), {"epochs": 20})
    for wide, narrow in passes_of(fed, method, started(fed, method, (1 / 4, 1))):
        assert (wide.widths, wide.teacher, narrow.teacher) == (None, None, 0)
        assert narrow.widths is not None
        assert None in narrow.widths, "where the client's own width is drawn, it is trained once"
        assert len(narrow.widths) == 60
    small, large = (set(narrow.widths) for _, narrow in passes_of(fed, method, started(fed, method, (1 / 4, 1))))
    assert small == {None, (1,), (2,)}
    assert large == {None, (1,), (2,), (4,), (8,)}


def test_a_device_below_all_widths_trains_its_own() -> None:
    fed, method = built("fjord", (16,), kd=False, widths=(0.5, 1.0))
    assert [one.widths for (one,) in passes_of(fed, method, started(fed, method, (0.3,)))] == [((4,),) * 3]


def test_the_mean_over_holders_sampled_or_not() -> None:
    fed, method = built("fjord", (4,))
    round_ = started(fed, method, (1 / 4, 1 / 2))
    assert kept(fed, method, round_) == [[[0]], [[0, 1]]]
    round_ = replace(round_, training=(numpy.arange(10), numpy.arange(30)))
    assert aggregated(fed, method, round_, (4, 8))[1].tolist() == [7, 8, 1, 1]


def test_what_runs_is_counted_pass_by_pass() -> None:
    """The paper counts the largest width once; what runs is it and, if narrower, the drawn width."""
    for kd in (True, False):
        fed, method = built("fjord", (16,), kd=kd)
        round_ = started(fed, method, (1 / 4, 1))
        plan = method.objective(fed, round_, method.download(fed, round_))
        for cost, job, units in zip(costs(fed, method, round_), plan.jobs, (4, 16), strict=True):
            drawn = job.segments[0].passes[-1].widths
            per_sample = {n: executed_flops(fed.program, submodel_weights(fed.program, (n,))) for n in (1, 2, 4, 8, 16)}
            lengths = (4, 4, 1)
            narrow = sum(n * per_sample[width[0]] for n, width in zip(lengths, drawn, strict=True) if width)
            assert cost.flops_executed == narrow + (9 * per_sample[units] if kd else 0)
            assert cost.flops_paper == 3 * 12 * (2 * units * 4 + 16 + 2 * 3 * 16 + 3)
            assert cost.bytes_up == cost.bytes_down == 4 * (units * (4 + 1 + 3) + 3)
    widths = numpy.array([1, 2, 4]) / 16
    assert (widths**2).mean() == pytest.approx(0.0273438, abs=1e-7), "of a layer between two thinned ones"


def test_without_teacher_and_choice_it_is_heterofl_without_scaler(tmp_path) -> None:
    own = tiny(tmp_path / "fjord", FIXED, "fjord")
    scaler = {"method.scaler": False, "capability.levels": [0.5], "rounds": 1}
    other = tiny(tmp_path / "heterofl", scaler, "heterofl")
    numpy.testing.assert_allclose(model_of(own.directory), model_of(other.directory), rtol=1e-4, atol=1e-7)
    for name in (*COSTS, "train_loss", "train_accuracy"):
        numpy.testing.assert_array_equal(own.metrics[name], other.metrics[name])
    trained = []
    for name, parameters in (("fjord", {"widths": (0.5,), "kd": False}), ("heterofl", {"scaler": False})):
        fed, method = built(name, (6, 5), **parameters)
        round_ = started(fed, method, (1 / 2,) * 3)
        batches = cohort(0, 0, round_.clients, round_.training, epochs=1, batch=4)
        start = torch.linspace(-1, 1, fed.program.size, dtype=torch.float64)
        plan = method.objective(fed, round_, method.download(fed, round_))
        trained.append(fed.executor.train(start, plan, batches).submodels)
    assert torch.equal(trained[0].kept, trained[1].kept)
    assert torch.equal(trained[0].parameters, trained[1].parameters)


def test_at_the_smallest_width_nobody_teaches(tmp_path) -> None:
    small = {"capability.levels": [1 / 16], "model.hidden": [32], "rounds": 2}
    own, other = (tiny(tmp_path / str(kd), {**small, "method.kd": kd}, "fjord") for kd in (True, False))
    numpy.testing.assert_array_equal(model_of(own.directory), model_of(other.directory))
    for name in COSTS:
        numpy.testing.assert_array_equal(own.metrics[name], other.metrics[name])


def test_one_width_is_fedavg_and_several_are_not(tmp_path) -> None:
    whole = {**FULL, "rounds": 3, "method.kd": False, "method.widths": [1.0]}
    own = tiny(tmp_path / "own", whole, "fjord")
    other = tiny(tmp_path / "fedavg", {**FULL, "rounds": 3}, "fedavg")
    numpy.testing.assert_allclose(model_of(own.directory), model_of(other.directory), rtol=1e-4, atol=1e-6)
    taught, alone = (tiny(tmp_path / str(kd), {**FULL, "rounds": 3, "method.kd": kd}, "fjord") for kd in (True, False))
    models = [model_of(run.directory) for run in (other, taught, alone)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not numpy.allclose(models[first], models[second], atol=1e-3)


@pytest.mark.parametrize("given", [{"method.widths": []}, {"method.widths": [0.5, 2]}, {"method.kd": 3}])
def test_bad_parameters(tmp_path, given) -> None:
    with pytest.raises(InputError, match=next(iter(given))):
        tiny(tmp_path / "run", given, "fjord")
