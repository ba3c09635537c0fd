"""The reference executor against a dense round written out in numpy, and what must not change its results."""

import numpy
import pytest
import torch

from fedlps.engine.plan import Hold, Job, Learned, Plan, Pull, Segment
from fedlps.models import chain
from fedlps.program import initial_parameters
from fedlps_kernels import select_units
from tests.engine.cases import cohort_of, executor_of, first_units, samples
from tests.engine.dense import dense_round, smallest

PROBES = frozenset({"kept", "losses", "parameters"})
MODELS = {
    "mlp": ((1, 3, 3), [["flatten"], ["linear", 7], ["relu"], ["linear", 5], ["relu"], ["linear", 3]]),
    "one unit": ((1, 2, 2), [["flatten"], ["linear", 1], ["relu"], ["linear", 2]]),
    "conv": (
        (2, 7, 7),
        [
            *(["conv", 5, 3, 1, 1], ["maxpool", 2], ["relu"], ["conv", 3, 2, 1, 0], ["relu"]),
            *(["flatten"], ["linear", 4], ["relu"], ["linear", 3]),
        ],
    ),
}


def drawn(seed: int) -> dict[str, float | str]:
    """A configuration: every term is there in some and missing in others."""
    rng = numpy.random.default_rng(1000 + seed)
    return {
        "lr": float(rng.choice([0.05, 0.3])),
        "momentum": float(rng.choice([0.0, 0.9])),
        "weight_decay": float(rng.choice([0.0, 0.01])),
        "clip": float(rng.choice([0.0, 0.4])),
        "mu": float(rng.choice([0.0, 1.0])),
        "lam": float(rng.choice([0.5, 1.0])),
        "kappa": float(rng.choice([0.0, 0.1])),
        "norm": str(rng.choice(["mean", "sum"])),
    }


def batches_for(seed: int, count: int) -> list[list[int]]:
    """Two epochs of a short last batch; every third seed a client of one sample."""
    if seed % 3 == 2:
        return [[seed % count]] * 4
    order = numpy.random.default_rng(seed).permutation(count).tolist()
    return [order[:4], order[4:8], order[8:], order[2:6], order[6:7]]


@pytest.mark.parametrize("learned", [True, False], ids=["learned", "fixed"])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_a_dense_round_by_hand(name: str, seed: int, learned: bool) -> None:
    shape, steps = MODELS[name]
    data = samples(shape, 2, 11, seed)
    module = chain(shape, steps)
    program, executor = executor_of(module, shape, data)
    config, ratio = drawn(seed), (0.2, 0.5, 0.7)[seed % 3]
    rng = numpy.random.default_rng(seed)
    received = initial_parameters(program, seed)
    counts = program.counts(ratio)
    redundancy = [0.3 + 1e-3 * rng.normal(size=group.units) for group in program.groups]
    flat = torch.from_numpy(numpy.concatenate(redundancy))
    kept = [sorted(rng.permutation(g.units)[:n].tolist()) for g, n in zip(program.groups, counts, strict=True)]
    pull = Pull(2 * config["mu"] / (program.size if config["norm"] == "mean" else 1), torch.from_numpy(received))
    if learned:
        units: torch.Tensor | Learned = Learned(flat, config["lam"], config["kappa"], config["norm"])
    else:
        scores = torch.cat(
            [torch.isin(torch.arange(g.units), torch.tensor(own)) for g, own in zip(program.groups, kept, strict=True)]
        ).double()
        units = select_units(scores[None], torch.tensor([counts], dtype=torch.int32), program.layout().groups)[0]
    segment = Segment(config["lr"], config["momentum"], config["weight_decay"], config["clip"])
    batches = batches_for(seed, len(data.labels))
    job = Job(0, Hold(counts, units), (segment,), pulls=(pull,))
    got = executor.train(torch.from_numpy(received), Plan((job,), PROBES), cohort_of(batches))

    want = dense_round(
        steps,
        [entry.shape for entry in program.parameters],
        received,
        [data.batch(numpy.array(batch)) for batch in batches],
        counts,
        units=None if learned else kept,
        redundancy=redundancy if learned else None,
        **config,
    )
    by_step = [
        [group[group >= 0].tolist() for group in kept_now.split([g.units for g in program.groups])]
        for kept_now in got.probes["kept"][0]
    ]
    assert by_step == want.kept_by_step
    numpy.testing.assert_allclose(got.probes["losses"][0], want.losses, rtol=1e-12, atol=1e-12)
    numpy.testing.assert_allclose(got.probes["parameters"][0].numpy(), want.parameters, rtol=1e-12, atol=1e-12)
    assert got.hits.tolist() == [want.hits]
    assert got.seen.tolist() == [sum(map(len, batches))]
    assert got.losses[0] == pytest.approx(numpy.mean(want.losses), rel=1e-12)
    assert not got.diverged[0]
    if learned:
        numpy.testing.assert_allclose(got.redundancy[0], numpy.concatenate(want.redundancy), rtol=1e-12, atol=1e-12)
        last = [smallest(d, count) for d, count in zip(want.redundancy, counts, strict=True)]
        final = [group[group >= 0].tolist() for group in got.submodels.kept[0].split([g.units for g in program.groups])]
        assert final == last, "the pattern that is uploaded is that of d after the last step"
    held = program.layout().entries(got.submodels.kept[0], got.submodels.counts[0])
    numpy.testing.assert_allclose(got.submodels.parameters[0].numpy(), want.parameters[held.numpy()], atol=1e-12)


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_the_cases_above_change_their_patterns(name: str) -> None:
    """Otherwise the learned cases would show nothing that the fixed ones do not."""
    shape, steps = MODELS[name]
    data = samples(shape, 2, 11)
    program, executor = executor_of(chain(shape, steps), shape, data)
    flat = torch.full((program.units,), 0.3, dtype=torch.float64)
    flat += 1e-3 * torch.from_numpy(numpy.random.default_rng(0).normal(size=program.units))
    job = Job(0, Hold(program.counts(0.5), Learned(flat, 1.0, 0.0, "mean")), (Segment(0.3),))
    start = torch.from_numpy(initial_parameters(program, 0))
    got = executor.train(start, Plan((job,), PROBES), cohort_of(batches_for(0, 11)))
    assert len({tuple(kept.tolist()) for kept in got.probes["kept"][0]}) > 1


def unequal_jobs(program, count: int) -> tuple[list[Job], list[list[list[int]]]]:
    """Jobs of several ratios, learned and fixed, on clients of unequal sizes."""
    jobs, clients = [], []
    for client, ratio in enumerate((1.0, 0.2, 0.6, 0.4)[:count]):
        counts = program.counts(ratio)
        d = torch.linspace(0.2, 0.4, program.units, dtype=torch.float64) + 0.01 * client
        units = Learned(d, 1.0, 0.5, "sum") if client % 2 else first_units(program, counts)
        jobs.append(Job(client, Hold(counts, units), (Segment(0.2, 0.5, 0.01, 1.0),)))
        clients.append([[client, client + 3, 7], [client + 1] * (client + 1)] * (1 + client % 2))
    return jobs, clients


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_grouping_changes_no_bit(name: str) -> None:
    shape, steps = MODELS[name]
    program, executor = executor_of(chain(shape, steps), shape, samples(shape, 3, 11))
    jobs, clients = unequal_jobs(program, 4)
    start = torch.from_numpy(initial_parameters(program, 1))
    together = executor.train(start, Plan(tuple(jobs)), cohort_of(*clients))
    for job in jobs:
        alone = executor.train(start, Plan((job,)), cohort_of(*clients))
        row, size = job.client, int(program.layout().compact_sizes(alone.submodels.counts)[0])
        assert torch.equal(alone.submodels.kept[0], together.submodels.kept[row])
        assert alone.submodels.parameters.shape[1] == size
        assert torch.equal(alone.submodels.parameters[0], together.submodels.parameters[row, :size])
        assert not together.submodels.parameters[row, size:].any()
        assert torch.equal(alone.redundancy[0], together.redundancy[row])
        assert alone.losses[0] == together.losses[row]
        assert (alone.hits[0], alone.seen[0]) == (together.hits[row], together.seen[row])
    assert len(set(together.seen.tolist())) > 1
    assert together.probes == {}


def test_a_plan_without_jobs() -> None:
    shape, steps = MODELS["mlp"]
    program, executor = executor_of(chain(shape, steps), shape, samples(shape, 3, 11))
    got = executor.train(torch.zeros(program.size, dtype=torch.float64), Plan((), PROBES), cohort_of())
    assert got.submodels.kept.shape == (0, program.units)
    assert got.submodels.counts.shape == (0, len(program.groups))
    assert got.redundancy.shape == (0, program.units)
    assert len(got.submodels) == len(got.losses) == len(got.hits) == len(got.seen) == len(got.diverged) == 0
    assert got.probes == {"kept": [], "losses": [], "parameters": []}


def test_a_client_without_batches_keeps_what_it_received() -> None:
    shape, steps = MODELS["mlp"]
    program, executor = executor_of(chain(shape, steps), shape, samples(shape, 3, 11))
    start = torch.from_numpy(initial_parameters(program, 1))
    counts = program.counts(1)
    got = executor.train(
        start, Plan((Job(0, Hold(counts, first_units(program, counts)), (Segment(0.1),)),), PROBES), cohort_of([])
    )
    assert torch.equal(got.probes["parameters"][0], start)
    assert numpy.isnan(got.losses[0])
    assert not got.diverged[0]


def test_segments_split_the_steps() -> None:
    shape, steps = MODELS["mlp"]
    program, executor = executor_of(chain(shape, steps), shape, samples(shape, 3, 11))
    counts, start = program.counts(0.6), torch.from_numpy(initial_parameters(program, 1))
    hold = Hold(counts, Learned(torch.full((program.units,), 0.3, dtype=torch.float64), 1.0, 0.0, "mean"))
    batches = cohort_of([[0, 1], [2, 3], [4, 5], [6]])

    def trained(*segments: Segment) -> torch.Tensor:
        return executor.train(start, Plan((Job(0, hold, segments),), PROBES), batches).probes["parameters"][0]

    whole = trained(Segment(0.1, weight_decay=0.1))
    assert torch.equal(trained(Segment(0.1, weight_decay=0.1, steps=3), Segment(0.1, weight_decay=0.1)), whole)
    assert not torch.equal(trained(Segment(0.1, weight_decay=0.1, steps=3)), whole)
    assert not torch.equal(trained(Segment(0.1, weight_decay=0.1, steps=3), Segment(0.2)), whole)
    # velocity starts at 0 in every segment
    pushed = trained(Segment(0.1, momentum=0.9))
    assert not torch.equal(trained(Segment(0.1, momentum=0.9, steps=2), Segment(0.1, momentum=0.9)), pushed)


def test_a_start_of_its_own_is_trained_and_left_as_it_was() -> None:
    shape, steps = MODELS["mlp"]
    program, executor = executor_of(chain(shape, steps), shape, samples(shape, 3, 11))
    counts = program.counts(1)
    hold = Hold(counts, first_units(program, counts))
    own = torch.from_numpy(initial_parameters(program, 2))
    copy, zeros = own.clone(), torch.zeros_like(own)
    batches = cohort_of([[0, 1], [2, 3]])
    given = executor.train(zeros, Plan((Job(0, hold, (Segment(0.1),), start=own),)), batches)
    received = executor.train(own, Plan((Job(0, hold, (Segment(0.1),)),)), batches)
    assert torch.equal(given.submodels.parameters, received.submodels.parameters)
    assert torch.equal(own, copy)
    assert not zeros.any()


@pytest.mark.parametrize("lr", [1e200, 1e308])
def test_a_client_that_diverges_is_flagged_and_alone(lr: float) -> None:
    shape, steps = MODELS["mlp"]
    program, executor = executor_of(chain(shape, steps), shape, samples(shape, 3, 11))
    counts, start = program.counts(1), torch.from_numpy(initial_parameters(program, 1))
    hold = Hold(counts, first_units(program, counts))
    good = [Job(client, hold, (Segment(0.1),)) for client in (0, 2)]
    bad = Job(1, hold, (Segment(lr),))
    batches = cohort_of(*[[[0, 1], [2, 3], [4, 5], [6, 7]]] * 3)
    got = executor.train(start, Plan((good[0], bad, good[1])), batches)
    want = executor.train(start, Plan(tuple(good)), batches)
    assert got.diverged.tolist() == [False, True, False]
    assert got.seen[1] < got.seen[0], "training ends where it diverged"
    for row, other in ((0, 0), (2, 1)):
        assert torch.equal(got.submodels.parameters[row], want.submodels.parameters[other])


def test_redundancies_that_explode_are_a_divergence() -> None:
    shape, steps = MODELS["mlp"]
    program, executor = executor_of(chain(shape, steps), shape, samples(shape, 3, 11))
    counts = program.counts(0.5)
    learned = Learned(torch.full((program.units,), 0.5, dtype=torch.float64), 1e308, 0.0, "sum")
    job = Job(0, Hold(counts, learned), (Segment(0.5),))
    start = torch.from_numpy(initial_parameters(program, 1))
    assert executor.train(start, Plan((job,)), cohort_of([[0], [1], [2]])).diverged.tolist() == [True]
