"""DepthFL: exits, depths by capability, what exits learn from each other, and who is averaged."""

from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.engine.cohort import cohort
from fedlps.engine.plan import Hold, Job, Plan, Segment
from fedlps.engine.result import Submodels
from fedlps.errors import InputError
from fedlps.methods import METHODS
from fedlps.models import ZOO, chain
from fedlps.recipe import exits
from fedlps.recipe.federation import Federation, Outcome
from fedlps.trace import derive
from tests.engine.cases import cohort_of, executor_of, samples
from tests.recipe.federations import SHAPE, federation, outcome_of, round_of
from tests.running import model_of, tiny

STEPS = [["flatten"], ["linear", 5], ["relu"], ["linear", 4], ["relu"], ["linear", 3]]
LEVELS = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16)


def build():
    """Three layers of 25, 24 and 15 entries; two exits, the first with a head of 18."""
    fed = federation(method="depthfl")
    module = chain(SHAPE, STEPS)
    adapted = exits.with_exits(module, derive(module, SHAPE))
    program, executor = executor_of(adapted, SHAPE, samples(SHAPE, 3, 40))
    fed = Federation(fed.config, program, fed.split, executor, fed.store, fed.dtype)
    recipe = METHODS["depthfl"]
    return fed, recipe.build(recipe.parameters(), fed.config)


def test_depths_of_the_paper() -> None:
    """MNIST's network and a VGG by parameter share; its channels are those of VGG11."""
    vgg = [
        step
        for width in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
        for step in ([["maxpool", 2]] if width == "M" else [["conv", width, 3, 1, 1], ["norm"], ["relu"]])
    ]
    cases = (
        (ZOO["mnist_cnn"]((1, 28, 28), 10), (1, 28, 28), (3, 2, 2, 1, 1)),
        (chain((3, 32, 32), [*vgg, ["flatten"], ["linear", 10]]), (3, 32, 32), (5, 4, 3, 3, 2)),
    )
    for module, shape, want in cases:
        program = derive(exits.with_exits(module, derive(module, shape)), shape)
        assert exits.depths(program) == want[0]
        assert tuple(exits.depth_of(program, level) for level in LEVELS) == want


def test_exits_answer_beside_the_chain() -> None:
    module = ZOO["digits_cnn"]((1, 8, 8), 10)
    program = derive(module, (1, 8, 8))
    adapted = exits.with_exits(module, program)
    inputs = torch.randn(3, 1, 8, 8)
    first, second, last = adapted(inputs)
    torch.testing.assert_close(last, module(inputs))
    mean = module[:3](inputs).mean((2, 3))
    torch.testing.assert_close(first, adapted.heads[0][-1](mean))
    assert second.shape == (3, 10)


def test_the_ramp() -> None:
    assert exits.ramped(0, 30) == pytest.approx(0.006738, abs=1e-6)
    assert exits.ramped(15, 30) == pytest.approx(0.286505, abs=1e-6)
    assert exits.ramped(30, 30) == exits.ramped(99, 30) == 1


def test_a_block_with_one_holder_equals_that_holder() -> None:
    fed, method = build()
    round_ = round_of(fed, clients=[0, 1], capabilities=[1.0, 0.1], parameters=torch.zeros(fed.program.size).double())
    holds = method.download(fed, round_)
    assert [hold.depth for hold in holds] == [2, 1]
    assert [int(hold.mask.sum()) for hold in holds] == [82, 25 + 18]
    plan = method.objective(fed, round_, holds)
    assert {job.mutual for job in plan.jobs} == {exits.ramped(0, 3)}
    kept, counts = fed.all_units[None].repeat(2, 1), torch.tensor([fed.all_counts] * 2, dtype=torch.int32)
    trained = Submodels(kept, counts, torch.tensor([[2.0], [4.0]], dtype=torch.float64).repeat(1, 82))
    outcome = outcome_of(fed, round_, models=trained)
    outcome = type(outcome)(round_, outcome.result, outcome.costs, outcome.dropped, plan, outcome.result)
    got = method.aggregation(fed, outcome, method.upload(fed, outcome))
    shallow = holds[1].mask
    assert (got[shallow] == 3).all()
    assert (got[~shallow] == 2).all()


def test_costs_of_a_depth() -> None:
    fed, method = build()
    round_ = round_of(fed, clients=[0, 1], capabilities=[1.0, 0.1])
    deep, shallow = method.accounting(fed, round_, method.objective(fed, round_, method.download(fed, round_)))
    assert (deep.bytes_up, deep.bytes_down) == (4 * 82, 4 * 82)
    assert (shallow.bytes_up, shallow.bytes_down) == (4 * 43, 4 * 43)
    block, head = 2 * 20 + 5, 2 * 15 + 3
    assert shallow.flops_paper == 3 * 12 * (block + head)
    assert deep.flops_paper == 3 * 12 * (block + head + 2 * 20 + 4 + 2 * 12 + 3)
    assert shallow.flops_executed == 9 * (2 * 2 * 20 + 3 * 2 * 15)


def test_at_depth_one_only_the_first_block_and_head_change(tmp_path) -> None:
    overrides = {"model.hidden": [8, 6], "capability.levels": [0.01], "rounds": 2}
    run = tiny(tmp_path / "run", overrides, "depthfl")
    other = tiny(tmp_path / "ramp", {**overrides, "method.ramp": 9}, "depthfl")
    assert numpy.array_equal(model_of(run.directory), model_of(other.directory)), "one exit learns from no other"
    fewer = tiny(tmp_path / "fewer", {**overrides, "rounds": 1}, "depthfl")
    module = ZOO["mlp"]((1, 8, 8), 10, hidden=[8, 6])
    program = derive(exits.with_exits(module, derive(module, (1, 8, 8))), (1, 8, 8))
    changed = model_of(run.directory) != model_of(fewer.directory)
    held = exits.up_to(program, 1).numpy()
    assert not changed[~held].any()
    assert changed[held].any()


def test_it_learns_otherwise_than_fedavg(tmp_path) -> None:
    overrides = {"model.hidden": [8, 6], "rounds": 3}
    run = tiny(tmp_path / "run", overrides, "depthfl")
    other = tiny(tmp_path / "fedavg", overrides, "fedavg")
    size = len(model_of(other.directory))
    assert not numpy.array_equal(model_of(run.directory)[:size], model_of(other.directory))


def test_with_the_last_exit_alone_it_is_fedavg() -> None:
    """All clients hold the whole chain, which has one exit, and as much data."""
    fed, method = build()
    module = chain(SHAPE, STEPS)
    got = []
    for single in (exits.Exits([list(module)], []), module):
        program, executor = executor_of(single, SHAPE, samples(SHAPE, 3, 40))
        fed = replace(fed, program=program, executor=executor)
        recipe = METHODS["fedavg"]
        chosen = method if single is not module else recipe.build(recipe.parameters(), fed.config)
        start = torch.linspace(-1, 1, program.size, dtype=torch.float64)
        round_ = round_of(fed, clients=[2, 0, 1], parameters=start)
        plan = chosen.objective(fed, round_, chosen.download(fed, round_))
        batches = cohort(0, 0, round_.clients, round_.training, epochs=2, batch=4)
        result = executor.train(start, plan, batches)
        costs = chosen.accounting(fed, round_, plan)
        outcome = Outcome(round_, result, costs, numpy.zeros(3, dtype=bool), plan, result)
        got.append((chosen.aggregation(fed, outcome, chosen.upload(fed, outcome)), costs))
    torch.testing.assert_close(got[0][0], got[1][0], rtol=1e-12, atol=1e-12)
    assert got[0][1] == got[1][1]
    assert not torch.allclose(got[0][0], start, atol=1e-3)


def test_feddyn(tmp_path) -> None:
    """The pulls of all jobs, and a run that is resumed with its variates: another model than without."""
    fed, _ = build()
    recipe = METHODS["depthfl"]
    method = recipe.build(recipe.parameters(feddyn=True, alpha=0.2), fed.config)
    round_ = round_of(fed, clients=[0, 1], capabilities=[1.0, 0.1])
    for job in method.objective(fed, round_, method.download(fed, round_)).jobs:
        assert [pull.coefficient for pull in job.pulls] == [0.2]
        assert job.mutual > 0
    overrides = {"model.hidden": [8, 6], "rounds": 3, "fraction": 1.0}
    models = [
        model_of(tiny(tmp_path / str(n), {**overrides, **given}, "depthfl").directory)
        for n, given in enumerate(({}, {"method.feddyn": True}, {"method.feddyn": True, "method.alpha": 0.5}))
    ]
    assert not numpy.allclose(models[0], models[1], atol=1e-3)
    assert not numpy.allclose(models[2], models[1], atol=1e-3)
    with pytest.raises(InputError, match=r"method\.alpha"):
        tiny(tmp_path / "bad", {**overrides, "method.alpha": 0}, "depthfl")


def test_models_without_depths(tmp_path) -> None:
    with pytest.raises(InputError, match="two pooling steps or two hidden layers"):
        tiny(tmp_path / "run", None, "depthfl")
    assert not (tmp_path / "run").exists()
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 4), torch.nn.GELU(), torch.nn.Linear(4, 3))
    with pytest.raises(InputError, match="exits need a chain"):
        exits.with_exits(module, derive(module, SHAPE))


def test_two_exits_learn_from_each_other() -> None:
    """The specification's case: label 0, softmax (0.5, 0.5) and (0.75, 0.25), weight 1: 1.255482 in all."""

    class Fixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(1, 2), torch.nn.Linear(1, 2)

        def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.first(inputs), self.second(inputs)

    data = samples((1,), 1, 1)
    program, executor = executor_of(Fixed(), (1,), data)
    start = torch.tensor([0.0, 0, 0, 0, 0, 0, numpy.log(3), 0], dtype=torch.float64)
    assert [parameter.name for parameter in program.parameters][-1] == "second.bias"
    job = Job(0, Hold((), torch.empty(0, dtype=torch.int32)), (Segment(0.1),), start=start, mutual=1.0)
    result = executor.train(start, Plan((job,)), cohort_of([[0]]))
    assert result.losses[0] == pytest.approx(0.693147 + 0.287682 + 0.130812 + 0.143841, abs=2e-6)
