"""What a round needs beyond the ops: clients left alone, lost clients, sums that follow a changing selection."""

import pytest
import torch

from fedlps_kernels import places
from fedlps_kernels.importance_step import cuda as importance
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.scatter_update import cuda as updating
from fedlps_kernels.select_units import cuda as selection
from fedlps_kernels.unit_abs_sum import cuda as sums
from fedlps_kernels.unit_abs_sum import definition as sums_defined
from tests.gpu.test_kernels import Step
from tests.kernels.cases import small_case
from tests.kernels.compare import assert_same


def one(value: float) -> torch.Tensor:
    return torch.full((1,), value)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_clients_without_samples_are_left_alone(fibers, clip):
    case = small_case()
    model, samples = OnDevice.of(case.layout, "cpu"), torch.tensor([2, 0, 1], dtype=torch.int32)
    weights = case.values(3, 184, dtype=torch.float32)
    packed = places.packed(case.layout, case.counts)
    gradient = case.values(packed.size, dtype=torch.float32)
    after, unit_sums, lost = weights.clone(), torch.zeros(3, 9), torch.zeros(3, dtype=torch.int32)
    given = case.kept, case.counts, model
    told = {"samples": samples, "lost": lost, "sums": unit_sums}
    room = updating.ClipRoom.of(3, model)
    updating.scatter_update(after, gradient, packed.to("cpu"), [], *given, lr=one(0.5), clip=clip, room=room, **told)
    assert (after != weights).any(dim=1).tolist() == [True, False, True]
    assert unit_sums.any(dim=1).tolist() == [True, False, True]
    d = case.values(3, 9, dtype=torch.float32)
    stepped = d.clone()
    importance.importance_step(
        stepped, unit_sums, None, model, stepped, lr=one(0.5), lam=1.0, kappa=0.0, samples=samples
    )
    assert (stepped != d).any(dim=1).tolist() == [True, False, True]
    kept, changed = torch.full((3, 9), 7, dtype=torch.int32), torch.full((3, 2), 7, dtype=torch.int32)
    selection.select_units(d, case.counts, model, kept, samples=samples, changed=changed)
    assert (kept == 7).all(dim=1).tolist() == [False, True, False]
    assert changed.tolist() == [[1, 1], [0, 0], [1, 1]]


def test_numbers_that_are_not_finite_are_told(fibers):
    case = small_case()
    model = OnDevice.of(case.layout, "cpu")
    packed = places.packed(case.layout, case.counts)
    gradient = torch.zeros(packed.size)
    gradient[packed.weight[1, 1]] = torch.inf
    gradient[packed.vectors[2, 2, 0]] = torch.nan
    for clip in (0.0, 1.0):
        lost = torch.zeros(3, dtype=torch.int32)
        given = torch.ones(3, 184), gradient, packed.to("cpu"), [], case.kept, case.counts, model
        updating.scatter_update(*given, lr=one(0.5), clip=clip, room=updating.ClipRoom.of(3, model), lost=lost)
        assert lost.tolist() == [0, 1, 1]
    d, lost = torch.zeros(3, 9), torch.zeros(3, dtype=torch.int32)
    d[2, 8] = torch.inf
    importance.importance_step(d, torch.ones(3, 9), None, model, d, lr=one(0.5), lam=1.0, kappa=0.0, lost=lost)
    assert lost.tolist() == [0, 0, 1]


def test_sums_follow_a_changing_selection(fibers):
    """The dropped part is summed anew only where the selection changed; the sums are always those of all weights."""
    case = small_case()
    model, counts = OnDevice.of(case.layout, "cpu"), torch.tensor([[2, 3], [5, 1], [1, 4]], dtype=torch.int32)
    weights = case.values(3, 184, dtype=torch.float32)
    kept = torch.full((3, 9), -1, dtype=torch.int32)
    ranks, changed = torch.empty_like(kept), torch.empty_like(counts)
    dropped, unit_sums = torch.full((3, 9), torch.nan), torch.empty(3, 9)
    sums.unit_abs_sum(weights, model, unit_sums)
    packed = places.packed(case.layout, counts)
    for step in range(4):
        if step != 2:
            scores = case.values(3, 9, dtype=torch.float32)
        selection.select_units(scores, counts, model, kept, changed=changed)
        assert bool(changed.any()) == (step != 2)
        updating.rank_units(kept, counts, model, ranks)
        before = dropped.clone()
        updating.dropped_sums(weights, kept, counts, ranks, model, dropped, changed=changed)
        if step == 2:
            assert_same("dropped", dropped, before)
        gradient = case.values(packed.size, dtype=torch.float32)
        given = kept, counts, model
        updating.scatter_update(
            weights, gradient, packed.to("cpu"), [], *given, lr=one(0.5), dropped=dropped, sums=unit_sums
        )
        want = sums_defined.unit_abs_sum(weights.double(), case.layout)
        torch.testing.assert_close(unit_sums.double(), want, rtol=1e-6, atol=0)


def test_a_step_that_graphs_capture(fibers):
    """What tests/gpu asks of a captured graph, without one: memory that served before gives what new memory does."""
    used, new = Step("cpu"), Step("cpu")
    scores = used.case.values(3, 9, dtype=torch.float32)
    used.scores.copy_(-scores)
    used.run()
    used.reset()
    for step in (used, new):
        step.scores.copy_(scores)
        step.run()
    for name in ("kept", "weights", "sums"):
        assert_same(name, getattr(used, name), getattr(new, name))
