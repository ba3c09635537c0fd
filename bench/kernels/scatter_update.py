"""scatter_update: python -m pytest -s bench/kernels/scatter_update.py"""

from functools import partial

import pytest
import torch

from bench.kernels.measure import compare
from bench.kernels.shapes import SHAPES, cohort
from fedlps_kernels import scatter_update
from fedlps_kernels.scatter_update import definition

STEP = {"lr": 0.1, "pull": 0.01, "weight_decay": 1e-4, "momentum": 0.9}


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_scatter_update(benchmark, shape, clip):
    case = cohort(shape)
    clients, size = len(case.kept), case.layout.parameters
    start, gradient, anchor = case.values(clients, size), case.values(clients, case.capacity), case.values(size)
    entries = torch.stack([case.layout.entries(*client) for client in zip(case.kept, case.counts, strict=True)])

    def by_gather(
        parameters, gradient, anchor, kept, counts, layout, *, lr, pull, weight_decay, clip, momentum, velocity
    ):
        """Positions made beforehand, all clients at once."""
        w = parameters.gather(1, entries)
        q = gradient + pull * (w - anchor[entries])
        if clip > 0:
            q *= (clip / (torch.linalg.vector_norm(q, dim=1, keepdim=True) + 1e-6)).clamp(max=1)
        q = velocity.gather(1, entries).mul_(momentum).add_(q.add_(w, alpha=weight_decay))
        velocity.scatter_(1, entries, q)
        parameters.scatter_(1, entries, w.sub_(q, alpha=lr))

    def runs(update):
        """A call that goes on from its own weights, and these weights after one call."""
        parameters, velocity = start.clone(), torch.zeros(clients, size)
        arguments = parameters, gradient, anchor, case.kept, case.counts, case.layout
        call = partial(update, *arguments, **STEP, clip=clip, velocity=velocity)
        call()
        return call, parameters.clone()

    updates = {"op": scatter_update, "gather, positions given": by_gather, "definition": definition.scatter_update}
    calls = {name: runs(update) for name, update in updates.items()}
    for _, parameters in calls.values():
        torch.testing.assert_close(parameters, calls["definition"][1])
    moved = 4 * clients * case.capacity * 6  # w and v read and written, g and the anchor read
    compare(benchmark, {name: call for name, (call, _) in calls.items()}, moved_bytes=moved)
