"""gather_weights: python -m pytest -s bench/kernels/gather_weights.py; on a GPU with -m gpu"""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from bench.kernels import device as on
from bench.kernels.masters import Masters, by_client
from bench.kernels.measure import compare
from bench.kernels.mixes import cases, ratios
from bench.kernels.shapes import SHAPES, cohort, vgg11
from fedlps.engine.cuda.launches import Packed
from fedlps_kernels import gather_weights
from fedlps_kernels.gather_weights import definition


def on_device(cohort: Masters) -> on.Comparison:
    """From masters to what products read, once."""
    masters = Packed(cohort.masters.view(-1), cohort.whole)

    def ours() -> tuple[list[on.Call], Callable[[], list[torch.Tensor]]]:
        packs = cohort.room()
        move = partial(cohort.weights.move, masters, packs, cohort.kept, cohort.counts, rounds=True)
        return [move], lambda: cohort.of(packs)

    def gather(own: list[int], entries: torch.Tensor) -> Callable[[], torch.Tensor]:
        if len(own) == 1:
            return lambda: cohort.masters[own[0]].index_select(0, entries[0]).to(cohort.store)[None]
        rows = torch.tensor(own, device=cohort.device)[:, None]
        return lambda: cohort.masters[rows, entries].to(cohort.store)

    alternatives = [
        on.Alternative("ours", ours),
        cohort.shared("alone", gather, by_client, captured=False),
        cohort.shared("alone", gather, by_client),
        cohort.shared("equal", gather, by_client),
    ]
    moved = cohort.entries * (4 + cohort.store.itemsize)
    return on.compare("gather_weights", alternatives, cohort.device, cohort.precision, moved_bytes=moved)


@pytest.mark.parametrize("shape", SHAPES)
def test_gather_weights(benchmark, shape):
    case = cohort(shape)
    parameters = case.values(len(case.kept), case.layout.parameters)
    # positions made beforehand: the best case of torch.gather, which reads 8 bytes of them for 4 of weights
    entries = torch.stack([case.layout.entries(*client) for client in zip(case.kept, case.counts, strict=True)])
    arguments = parameters, case.kept, case.counts, case.layout, case.capacity
    alternatives = {
        "op": lambda: gather_weights(*arguments),
        "gather, positions given": lambda: parameters.gather(1, entries),
        "definition": lambda: definition.gather_weights(*arguments),
    }
    wanted = alternatives["definition"]()
    assert all(torch.equal(call(), wanted) for call in alternatives.values())
    compare(benchmark, alternatives, moved_bytes=2 * 4 * wanted.numel())


@pytest.mark.gpu
@pytest.mark.parametrize(("clients", "mix", "precision"), cases())
def test_vgg11_on_a_gpu(gpu, benchmark, clients, mix, precision):
    found = on_device(Masters(vgg11(), ratios(mix, clients), gpu, precision))
    on.report(benchmark, [found], op="gather_weights", clients=clients, mix=mix)
