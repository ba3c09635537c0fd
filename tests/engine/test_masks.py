"""Masks of entries, changes between segments, and what is probed of them, against a small net written out in numpy."""

import numpy
import torch

from fedlps.engine.plan import Hold, Job, Plan, Segment
from fedlps.models import chain
from fedlps.program import initial_parameters
from tests.engine.cases import cohort_of, executor_of, first_units, samples

SHAPE, CLASSES = (1, 2, 2), 3
STEPS = [["flatten"], ["linear", 5], ["relu"], ["linear", CLASSES]]
SIZE = 5 * 4 + 5 + 3 * 5 + 3
BATCHES = [[0, 1, 2], [3, 4], [5, 6, 7], [8]]
PROBES = frozenset({"parameters", "mask", "gradients"})
OPTIMISER = {"lr": 0.2, "momentum": 0.7, "weight_decay": 0.03}


def setting():
    """Program, executor, samples, initial parameters, and a mask that leaves out about a third."""
    data = samples(SHAPE, CLASSES, 9)
    program, executor = executor_of(chain(SHAPE, STEPS), SHAPE, data)
    start = torch.from_numpy(initial_parameters(program, 3))
    mask = torch.from_numpy(numpy.random.default_rng(1).random(SIZE) < 0.7)
    return program, executor, data, start, mask


def run(setting, mask, *segments, start=None, probes=PROBES):
    program, executor, _, initial, _ = setting
    counts = program.counts(1)
    job = Job(0, Hold(counts, first_units(program, counts), mask), segments, start=start)
    return executor.train(initial, Plan((job,), probes), cohort_of(BATCHES))


def gradient(weights: numpy.ndarray, inputs: numpy.ndarray, labels: numpy.ndarray) -> numpy.ndarray:
    """Of the mean cross entropy, by hand: all entries, whatever a mask says."""
    first, bias, second, last = numpy.split(weights, [20, 25, 40])
    first, second = first.reshape(5, 4), second.reshape(3, 5)
    x = inputs.reshape(len(inputs), -1)
    before = x @ first.T + bias
    hidden = numpy.maximum(before, 0)
    logits = hidden @ second.T + last
    share = numpy.exp(logits - logits.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    share[numpy.arange(len(labels)), labels] -= 1
    out = share / len(labels)
    back = (out @ second) * (before > 0)
    return numpy.concatenate([(back.T @ x).ravel(), back.sum(0), (out.T @ hidden).ravel(), out.sum(0)])


def by_hand(data, weights, mask, batches, *, lr, momentum=0.0, weight_decay=0.0):
    """Weights after these batches, and the sum of the gradients of all entries."""
    weights, velocity, total = weights.copy(), numpy.zeros(SIZE), numpy.zeros(SIZE)
    for batch in batches:
        own = gradient(weights, *data.batch(numpy.array(batch)))
        total += own
        velocity = momentum * velocity + numpy.where(mask, own, 0) + weight_decay * weights
        weights[mask] -= lr * velocity[mask]
    return weights, total


def close(got: torch.Tensor, want: numpy.ndarray) -> None:
    numpy.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-14)


def test_entries_outside_a_mask_keep_their_value_from_the_start() -> None:
    case = setting()
    _, _, data, initial, mask = case
    for start in (initial, torch.where(mask, initial, 0)):
        got = run(case, mask, Segment(**OPTIMISER), start=start)
        want, total = by_hand(data, start.numpy(), mask.numpy(), BATCHES, **OPTIMISER)
        trained = got.probes["parameters"][0]
        close(trained, want)
        assert torch.equal(trained[~mask], start[~mask])
        assert (trained[mask] != start[mask]).any()
        assert torch.equal(got.probes["mask"][0], mask)
        close(got.probes["gradients"][0], total)
        assert got.probes["gradients"][0][~mask].any(), "of all entries, held or not"


def test_a_mask_of_everything_changes_no_bit() -> None:
    case = setting()
    full = run(case, torch.ones(SIZE, dtype=torch.bool), Segment(**OPTIMISER))
    none = run(case, None, Segment(**OPTIMISER))
    assert torch.equal(full.submodels.parameters, none.submodels.parameters)
    assert none.probes["mask"][0].all()


def test_a_change_after_a_segment_gets_weights_mask_and_the_first_batchs_gradient() -> None:
    case = setting()
    _, _, data, initial, mask = case
    seen = []

    def change(weights, own, dense):
        seen.append((weights.clone(), own.clone(), dense))
        return weights, own

    start = torch.where(mask, initial, 0)
    before = Segment(**OPTIMISER, steps=2, after=change, after_gradient=True)
    run(case, mask, before, Segment(**OPTIMISER, after=change), start=start)
    assert len(seen) == 2
    middle, _ = by_hand(data, start.numpy(), mask.numpy(), BATCHES[:2], **OPTIMISER)
    end, _ = by_hand(data, middle, mask.numpy(), BATCHES[2:], **OPTIMISER)  # velocity starts anew
    close(seen[0][0], middle)
    close(seen[1][0], end)
    assert torch.equal(seen[0][1], mask)
    close(seen[0][2], gradient(middle, *data.batch(numpy.array(BATCHES[0]))))
    assert seen[0][2][~mask].any()
    assert seen[1][2] is None


def test_the_gradient_of_a_later_segment_is_that_of_its_own_first_batch() -> None:
    case = setting()
    _, _, data, initial, mask = case
    seen = []

    def change(weights, own, dense):
        seen.append(dense)
        return weights, own

    run(case, mask, Segment(0.2, steps=2), Segment(0.1, after=change, after_gradient=True))
    middle, _ = by_hand(data, initial.numpy(), mask.numpy(), BATCHES[:2], lr=0.2)
    end, _ = by_hand(data, middle, mask.numpy(), BATCHES[2:], lr=0.1)
    close(seen[0], gradient(end, *data.batch(numpy.array(BATCHES[2]))))


def test_what_a_change_returns_is_trained_on() -> None:
    """Drop the smallest held entries and grow as many of the largest gradient, starting from 0."""
    case = setting()
    _, _, data, initial, mask = case
    moved = 4

    def swapped(
        weights: numpy.ndarray, own: numpy.ndarray, dense: numpy.ndarray
    ) -> tuple[numpy.ndarray, numpy.ndarray]:
        kept = numpy.flatnonzero(own)
        left = own.copy()
        left[kept[numpy.argsort(abs(weights[kept]))[:moved]]] = False
        free = numpy.flatnonzero(~own)
        new = left.copy()
        new[free[numpy.argsort(-abs(dense[free]))[:moved]]] = True
        return numpy.where(left, weights, 0), new

    def change(weights, own, dense):
        return tuple(map(torch.from_numpy, swapped(weights.numpy(), own.numpy(), dense.numpy())))

    start = torch.where(mask, initial, 0)
    got = run(
        case,
        mask,
        Segment(0.2, steps=2, after=change, after_gradient=True),
        Segment(0.1, weight_decay=0.5),
        start=start,
    )
    middle, first = by_hand(data, start.numpy(), mask.numpy(), BATCHES[:2], lr=0.2)
    middle, new = swapped(middle, mask.numpy(), gradient(middle, *data.batch(numpy.array(BATCHES[0]))))
    end, second = by_hand(data, middle, new, BATCHES[2:], lr=0.1, weight_decay=0.5)
    assert (new != mask.numpy()).sum() == 2 * moved
    close(got.probes["parameters"][0], end)
    assert got.probes["mask"][0].tolist() == new.tolist()
    close(got.probes["gradients"][0], first + second)  # the steps' only, not the one for the change
    assert not got.probes["parameters"][0][~torch.from_numpy(new)].any()
    close(got.submodels.parameters[0], end)  # every unit is held, so all entries are gathered


def test_a_change_after_the_last_step_is_what_is_reported() -> None:
    case = setting()
    _, _, data, initial, mask = case
    got = run(case, mask, Segment(0.2, after=lambda weights, own, dense: (2 * weights, ~own)))
    want, _ = by_hand(data, initial.numpy(), mask.numpy(), BATCHES, lr=0.2)
    close(got.probes["parameters"][0], 2 * want)
    close(got.submodels.parameters[0], 2 * want)
    assert torch.equal(got.probes["mask"][0], ~mask)
    assert got.seen.tolist() == [9]


def test_clients_do_not_share_masks_or_sums() -> None:
    case = setting()
    program, executor, _, initial, mask = case
    counts = program.counts(1)
    masks = (mask, ~mask, None)
    jobs = tuple(
        Job(client, Hold(counts, first_units(program, counts), own), (Segment(0.2, 0.5),))
        for client, own in enumerate(masks)
    )
    together = executor.train(initial, Plan(jobs, PROBES), cohort_of(BATCHES, BATCHES[:2], BATCHES))
    for job in jobs:
        alone = executor.train(initial, Plan((job,), PROBES), cohort_of(BATCHES, BATCHES[:2], BATCHES))
        for name in PROBES:
            assert torch.equal(alone.probes[name][0], together.probes[name][job.client])
