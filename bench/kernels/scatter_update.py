"""scatter_update: python -m pytest -s bench/kernels/scatter_update.py; on a GPU with -m gpu"""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from bench.kernels import device as on
from bench.kernels.masters import Masters
from bench.kernels.measure import compare
from bench.kernels.mixes import cohorts, ratios
from bench.kernels.shapes import SHAPES, cohort, vgg11
from fedlps.engine.cuda.definitions.entries import positions
from fedlps.engine.cuda.launches import Packed, Pull, Rates
from fedlps_kernels import scatter_update
from fedlps_kernels.scatter_update import definition

STEP = {"lr": 0.1, "pull": 0.01, "weight_decay": 1e-4, "momentum": 0.9}


def on_device(cohort: Masters) -> on.Comparison:
    """A step without momentum, pulled to what all received; ours also sums what it wrote, the library does not."""
    gradient = torch.randn(cohort.places.size, generator=cohort.generator, device=cohort.device)
    rates = Rates(torch.full((1,), STEP["lr"], device=cohort.device), 0.0, STEP["weight_decay"], 0.0)
    pull, learning = Pull(STEP["pull"], cohort.received), cohort.draw()

    def written() -> list[torch.Tensor]:
        return [cohort.masters[client, cohort.flat(client)] for client in cohort.checked]

    def ours() -> tuple[list[on.Call], Callable[[], list[torch.Tensor]]]:
        cohort.reset()
        given = cohort.masters, Packed(gradient, cohort.places), cohort.kept, cohort.counts, [pull], rates
        active = cohort.samples, cohort.broken
        return [partial(cohort.weights.scatter_update, *given, None, learning, *active)], written

    def update(own: list[int], entries: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Gradients lie compact already."""
        found = [gradient[positions(cohort.places, cohort.layout, client)] for client in own]
        rows, g, w0 = torch.tensor(own, device=cohort.device)[:, None], torch.stack(found), cohort.received

        def call() -> torch.Tensor:
            w = cohort.masters[rows, entries]
            q = (g + pull.coefficient * (w - w0[entries])).add_(w, alpha=rates.weight_decay)
            cohort.masters[rows, entries] = w.sub_(q, alpha=STEP["lr"])
            return w

        return call

    alternatives = [
        on.Alternative("ours", ours),
        cohort.shared("alone", update, lambda _: written(), before=cohort.reset, captured=False),
        cohort.shared("alone", update, lambda _: written(), before=cohort.reset),
        cohort.shared("equal", update, lambda _: written(), before=cohort.reset),
    ]
    moved = 4 * (3 * cohort.entries + cohort.layout.parameters)  # g read, w read and written; the reference once
    return on.compare("scatter_update", alternatives, cohort.device, "fp32", moved_bytes=moved)


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


@pytest.mark.gpu
@pytest.mark.parametrize(("clients", "mix"), cohorts())
def test_vgg11_on_a_gpu(gpu, benchmark, clients, mix):
    found = on_device(Masters(vgg11(), ratios(mix, clients), gpu))
    on.report(benchmark, [found], op="scatter_update", clients=clients, mix=mix)
