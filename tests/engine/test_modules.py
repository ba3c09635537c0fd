"""Modules of every kind on the reference executor: submodels, modules that are no chain, random layers, buffers."""

import copy

import numpy
import pytest
import torch
from torch import nn

from fedlps.engine.plan import Hold, Job, Learned, Plan, Segment
from fedlps.engine.result import Submodels, whole
from fedlps.errors import InputError
from fedlps.models import chain
from fedlps.program import initial_parameters
from fedlps_kernels import gather_weights, select_units
from tests.engine.cases import Arrays, cohort_of, executor_of, first_units, samples

SHAPE = (1, 6, 6)
CONV = [["conv", 6, 3, 1, 1], ["maxpool", 2], ["relu"], ["conv", 5, 2, 1, 0], ["relu"], ["flatten"], ["linear", 3]]


class Residual(nn.Module):
    """Two convolutions share their units; a layer norm keeps its own whole; GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.block = nn.Conv2d(6, 6, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(6 * 9, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stem = nn.functional.gelu(self.stem(images))
        mixed = nn.functional.gelu(self.block(stem) + stem)
        return self.head(torch.relu(self.norm(self.hidden(torch.flatten(self.pool(mixed), 1)))))


class Branching(nn.Module):
    """Cannot be traced: what it computes depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(36, 8)
        self.second = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.first(images.flatten(1))
        return self.second(hidden if hidden.sum() > 0 else torch.relu(hidden))


class Dropping(nn.Module):
    """Dropout, and numbers of its own that it draws in evaluation as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(36, 8)
        self.drop = nn.Dropout(0.5)
        self.second = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.drop(torch.relu(self.first(images.flatten(1))))
        return self.second(hidden) + torch.rand(len(images), 3)


class Counting(nn.Module):
    """Changes a buffer at every call and lets it decide the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(36, 3)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        return self.layer(images.flatten(1)) * self.calls


def learned_job(program, ratio: float, client: int = 0, lr: float = 0.1) -> Job:
    d = torch.linspace(0.3, 0.3001, max(program.units, 1), dtype=torch.float64)[: program.units]
    return Job(client, Hold(program.counts(ratio), Learned(d, 1.0, 0.0, "mean")), (Segment(lr),))


BATCHES = [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_the_compact_submodel_is_the_gated_full_model() -> None:
    data = samples(SHAPE, 3, 9)
    program, executor = executor_of(chain(SHAPE, CONV), SHAPE, data)
    parameters = torch.from_numpy(initial_parameters(program, 0))
    counts = (2, 3)
    scores = torch.from_numpy(numpy.random.default_rng(1).random(program.units))
    table = torch.tensor([counts], dtype=torch.int32)
    layout = program.layout()
    kept = select_units(scores[None], table, layout.groups)
    gates = torch.zeros(program.units, dtype=torch.float64)
    for first, group in zip(layout.groups.tolist(), kept[0].split([g.units for g in program.groups]), strict=False):
        gates[first + group[group >= 0].long()] = 1
    assert gates.sum() == sum(counts)
    inputs = torch.from_numpy(data.inputs)
    (want,) = executor.forward(parameters, inputs, gates)

    thin = chain(SHAPE, [["conv", 2, 3, 1, 1], *CONV[1:3], ["conv", 3, 2, 1, 0], *CONV[4:]]).double()
    size = int(layout.compact_sizes(table)[0])
    compact = gather_weights(parameters[None], kept, table, layout, size)[0]
    assert size == sum(parameter.numel() for parameter in thin.parameters())
    nn.utils.vector_to_parameters(compact, thin.parameters())
    torch.testing.assert_close(thin(inputs), want, rtol=1e-13, atol=1e-13)

    evaluated = executor.evaluate(Submodels(kept, table, compact[None]), [numpy.arange(9)], "test")
    labels = torch.from_numpy(data.labels)
    assert evaluated.hits[0].tolist() == (want.argmax(1) == labels).tolist()
    assert evaluated.losses[0] == pytest.approx(
        float(nn.functional.cross_entropy(want, labels, reduction="sum")), rel=1e-12
    )


@pytest.mark.parametrize("module", [Residual(), chain(SHAPE, CONV)], ids=["residual", "chain"])
def test_what_is_not_held_stays_and_does_not_count(module: nn.Module) -> None:
    program, executor = executor_of(module, SHAPE, samples(SHAPE, 3, 9))
    assert program.units > 0
    counts = program.counts(0.5)
    start = torch.from_numpy(initial_parameters(program, 0))
    hold = Hold(counts, first_units(program, counts))
    plan = Plan((Job(0, hold, (Segment(0.1, 0.9, 0.01),)),), frozenset({"parameters", "losses"}))
    got = executor.train(start, plan, cohort_of(BATCHES))
    trained = got.probes["parameters"][0]
    held = torch.zeros(program.size, dtype=torch.bool)
    held[program.layout().entries(got.submodels.kept[0], got.submodels.counts[0])] = True
    assert 0 < int(held.sum()) < program.size
    assert torch.equal(trained[~held], start[~held])
    assert (trained[held] != start[held]).double().mean() > 0.5
    # other values outside the submodel change nothing inside it
    other = executor.train(torch.where(held, start, 7.0), plan, cohort_of(BATCHES))
    torch.testing.assert_close(other.probes["parameters"][0][held], trained[held], rtol=1e-12, atol=1e-12)
    assert other.losses[0] == pytest.approx(got.losses[0], rel=1e-12)


@pytest.mark.parametrize("module", [Residual(), Branching()], ids=["residual", "branching"])
def test_a_module_that_is_no_chain_learns(module: nn.Module) -> None:
    data = samples(SHAPE, 3, 9)
    program, executor = executor_of(module, SHAPE, data)
    assert program.obstacle is not None
    start = torch.from_numpy(initial_parameters(program, 0))
    plan = Plan((learned_job(program, 0.5),), frozenset({"losses"}))
    losses = executor.train(start, plan, cohort_of(BATCHES * 30)).probes["losses"][0]
    assert numpy.mean(losses[-3:]) < 0.7 * numpy.mean(losses[:3])


def test_units_added_together_are_dropped_together() -> None:
    program, executor = executor_of(Residual(), SHAPE, samples(SHAPE, 3, 9))
    assert [layer.row_group for layer in program.layers] == [0, 0, -1, -1], "the normed units stay whole"
    gates = torch.ones(program.units, dtype=torch.float64)
    gates[2] = 0
    seen = []
    hidden = executor.module.get_submodule("hidden")
    handle = hidden.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    executor.forward(
        torch.from_numpy(initial_parameters(program, 0)), torch.from_numpy(samples(SHAPE, 3, 4).inputs), gates
    )
    handle.remove()
    channels = seen[0].reshape(4, 6, 9)
    assert not channels[:, 2].any()
    assert all(channels[:, unit].any() for unit in (0, 1, 3, 4, 5))


def test_dropped_units_get_no_task_gradient() -> None:
    """GELU has a slope at 0, so a gate of 0 has a gradient too; section 4 says it does not count."""
    program, executor = executor_of(Residual(), SHAPE, samples(SHAPE, 3, 9))
    start = torch.from_numpy(initial_parameters(program, 0))
    d = torch.linspace(0.3, 0.9, program.units, dtype=torch.float64)
    job = Job(0, Hold((2,), Learned(d, 0.0, 0.1, "mean")), (Segment(0.1),))
    got = executor.train(start, Plan((job,)), cohort_of(BATCHES))
    assert torch.equal(got.redundancy[0, 2:], d[2:])
    assert (got.redundancy[0, :2] != d[:2]).all()


def test_a_module_without_units_to_thin() -> None:
    program, executor = executor_of(chain(SHAPE, [["flatten"], ["linear", 3]]), SHAPE, samples(SHAPE, 3, 9))
    assert program.units == 0
    start = torch.from_numpy(initial_parameters(program, 0))
    got = executor.train(start, Plan((learned_job(program, 0.5),)), cohort_of(BATCHES))
    assert got.submodels.parameters.shape == (1, program.size)
    assert got.redundancy.shape == (1, 0)
    models = whole(program, start)
    assert len(executor.evaluate(models, [numpy.arange(9)], "test").hits[0]) == 9


def test_random_layers_draw_from_the_clients_seed_alone() -> None:
    data = samples(SHAPE, 3, 9)
    program, executor = executor_of(Dropping(), SHAPE, data)
    start = torch.from_numpy(initial_parameters(program, 0))
    jobs = tuple(learned_job(program, 0.5, client) for client in (0, 1, 2))
    clients = cohort_of(BATCHES, BATCHES, BATCHES, seeds=[11, 12, 11])
    torch.manual_seed(1)
    state = torch.get_rng_state()
    together = executor.train(start, Plan(jobs), clients)
    assert torch.equal(torch.get_rng_state(), state), "the caller's generator is left as it was"
    torch.manual_seed(2)
    alone = executor.train(start, Plan(jobs[1:2]), clients)
    assert torch.equal(alone.submodels.parameters[0], together.submodels.parameters[1])
    assert torch.equal(together.submodels.parameters[0], together.submodels.parameters[2])
    assert not torch.equal(together.submodels.parameters[0], together.submodels.parameters[1])

    models = whole(program, start)
    losses = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        losses.append(executor.evaluate(models, [numpy.arange(9)], "test").losses[0])
    assert losses[0] == losses[1]


def test_nothing_passes_from_client_to_client_or_to_the_callers_module() -> None:
    module = Counting().eval()
    torch.nn.init.constant_(module.calls, 3)
    before = copy.deepcopy(module.state_dict())
    program, executor = executor_of(module, SHAPE, samples(SHAPE, 3, 9))
    start = torch.from_numpy(initial_parameters(program, 0))
    jobs = tuple(learned_job(program, 1.0, client) for client in (0, 1))
    got = executor.train(start, Plan(jobs), cohort_of(BATCHES, BATCHES))
    assert torch.equal(got.submodels.parameters[0], got.submodels.parameters[1])
    again = executor.train(start, Plan(jobs), cohort_of(BATCHES, BATCHES))
    assert torch.equal(again.submodels.parameters, got.submodels.parameters)
    assert not module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.dtype == before[name].dtype
    assert not any(child._forward_hooks for child in module.modules())


def test_evaluation_counts_ties_for_the_lower_class() -> None:
    data = Arrays(numpy.ones((4, *SHAPE)), numpy.array([0, 1, 2, 1]))
    program, executor = executor_of(chain(SHAPE, [["flatten"], ["linear", 3]]), SHAPE, data)
    parameters = torch.zeros(program.size, dtype=torch.float64)
    models = whole(program, parameters)
    assert executor.evaluate(models, [numpy.arange(4)], "test").hits[0].tolist() == [True, False, False, False]
    parameters[-3:] = torch.tensor([0.0, 1.0, 1.0])  # the biases
    got = executor.evaluate(whole(program, parameters), [numpy.arange(4)], "test")
    assert got.hits[0].tolist() == [False, True, False, True]
    assert got.accuracies().tolist() == [0.5]


def test_models_are_evaluated_each_on_its_own_samples_and_in_batches() -> None:
    data = samples(SHAPE, 3, 9)
    program, executor = executor_of(chain(SHAPE, CONV), SHAPE, data)
    rng = numpy.random.default_rng(0)
    flat = [torch.from_numpy(rng.normal(size=program.size)) for _ in range(2)]
    pair = [whole(program, parameters) for parameters in flat]
    models = Submodels(
        torch.cat([m.kept for m in pair]), torch.cat([m.counts for m in pair]), torch.cat([m.parameters for m in pair])
    )
    own = [numpy.array([8, 0, 3]), numpy.array([1, 2, 3, 4, 5])]
    got = executor.evaluate(models, own, "test")
    executor.evaluation_batch = 2
    small = executor.evaluate(models, own, "test")
    for row, (parameters, indices) in enumerate(zip(flat, own, strict=True)):
        (outputs,) = executor.forward(parameters, torch.from_numpy(data.inputs[indices]), None)
        want = (outputs.argmax(1).numpy() == data.labels[indices]).tolist()
        assert got.hits[row].tolist() == small.hits[row].tolist() == want
        assert small.losses[row] == pytest.approx(got.losses[row], rel=1e-12)


def test_no_models() -> None:
    program, executor = executor_of(chain(SHAPE, CONV), SHAPE, samples(SHAPE, 3, 9))
    none = whole(program, torch.zeros(program.size, dtype=torch.float64))[[]]
    got = executor.evaluate(none, [], "test")
    assert got.hits == []
    assert got.accuracies().shape == (0,)


def test_batch_norms_see_their_batch() -> None:
    """Evaluation of batch-statistics norms runs over consecutive samples, so the batch size is part of the answer."""
    steps = [["conv", 6, 3, 1, 1], ["norm"], ["relu"], ["flatten"], ["linear", 3]]
    data = samples(SHAPE, 3, 9)
    module = chain(SHAPE, steps)
    program, executor = executor_of(module, SHAPE, data)
    parameters = torch.from_numpy(initial_parameters(program, 0))
    executor.evaluation_batch = 4
    got = executor.evaluate(whole(program, parameters), [numpy.arange(9)], "test")
    nn.utils.vector_to_parameters(parameters.clone(), module.double().parameters())
    inputs, labels = torch.from_numpy(data.inputs), torch.from_numpy(data.labels)
    module.eval()
    with torch.no_grad():
        pieces = torch.cat([module(inputs[start : start + 4]) for start in (0, 4, 8)])
        together = module(inputs)
    loss = nn.CrossEntropyLoss(reduction="sum")
    assert got.losses[0] == pytest.approx(float(loss(pieces, labels)), rel=1e-10)
    assert got.losses[0] != pytest.approx(float(loss(together, labels)))


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True)])
def test_norms_with_running_averages_are_refused(norm: nn.Module) -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(InputError, match=r"^model: norm '1' keeps running averages"):
        executor_of(module, SHAPE, samples(SHAPE, 3, 9))
