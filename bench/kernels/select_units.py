"""select_units: python -m pytest -s bench/kernels/select_units.py; on a GPU with -m gpu"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch

from bench.kernels import device as on
from bench.kernels.masters import Masters
from bench.kernels.measure import compare
from bench.kernels.mixes import cohorts, ratios
from bench.kernels.operands import together
from bench.kernels.shapes import SHAPES, cohort, vgg11
from fedlps_kernels import select_units
from fedlps_kernels.select_units import definition


def by_topk(scores: torch.Tensor, counts: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """One topk per group, for clients that all keep as many; breaks ties as it likes."""
    kept = torch.full(scores.shape, -1, dtype=torch.int32, device=scores.device)
    edges = groups.tolist()
    for group, count in enumerate(counts[0].tolist()):
        chosen = scores[:, edges[group] : edges[group + 1]].topk(count).indices
        kept[:, edges[group] : edges[group] + count] = chosen.sort().values.int()
    return kept


def by_sort(scores: torch.Tensor, counts: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """One stable sort per group, for clients of any counts: what is not chosen is sorted to the end and blotted out."""
    kept = torch.empty(scores.shape, dtype=torch.int32, device=scores.device)
    for group, (first, last) in enumerate(pairwise(groups.tolist())):
        order = scores[:, first:last].sort(dim=1, descending=True, stable=True).indices
        none = torch.arange(last - first, device=scores.device) >= counts[:, group, None]
        chosen = order.masked_fill(none, last - first).sort(dim=1).values
        kept[:, first:last] = chosen.masked_fill(none, -1)
    return kept


def on_device(cohort: Masters) -> on.Comparison:
    """All groups of all clients; no two scores are equal, as topk breaks ties otherwise."""
    counts, groups, moved = cohort.counts, cohort.layout.groups, 2 * cohort.kept.nbytes
    drawn = [cohort.draw() for _ in range(on.sets(moved, cohort.device))]
    scores = [-one.redundancy for one in drawn]
    buckets = together("equal", [tuple(row) for row in cohort.host.tolist()])
    places = [torch.tensor(own, device=cohort.device) for own in buckets]
    numbers = [cohort.host[own[:1]] for own in buckets]  # on the host: topk takes them there

    def topk(given: torch.Tensor) -> torch.Tensor:
        kept = torch.empty_like(cohort.kept)
        for own, count in zip(places, numbers, strict=True):
            kept[own] = by_topk(given[own], count, groups)
        return kept

    def each(given: torch.Tensor) -> torch.Tensor:
        every = zip(given, cohort.host, strict=True)
        return torch.cat([by_topk(own[None], count[None], groups) for own, count in every])

    def library(name: str, call: Callable[[torch.Tensor], torch.Tensor], captured: bool = True) -> on.Alternative:
        calls = [partial(call, given) for given in scores]
        return on.Alternative(name, lambda: (calls, lambda: [call(scores[0])]), captured)

    def ours() -> tuple[list[on.Call], Callable[[], list[torch.Tensor]]]:
        kept = [torch.full_like(cohort.kept, -1) for _ in drawn]
        arguments = zip(drawn, kept, strict=True)
        calls: list[on.Call] = [
            partial(cohort.weights.select_units, learning, counts, cohort.samples, own) for learning, own in arguments
        ]
        return calls, lambda: [kept[0]]

    alternatives = [
        on.Alternative("ours", ours),
        library("topk, client by client", each, captured=False),
        library("topk, equal ratios stacked", topk),
        library("stable sort, all clients", lambda given: by_sort(given, counts, groups)),
    ]
    return on.compare("select_units", alternatives, cohort.device, "fp32", moved_bytes=moved, tolerance=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_select_units(benchmark, shape):
    case = cohort(shape)
    arguments = case.values(*case.kept.shape), case.counts, case.layout.groups
    alternatives = {
        "op": lambda: select_units(*arguments),
        "topk": lambda: by_topk(*arguments),
        "definition": lambda: definition.select_units(*arguments),
    }
    wanted = alternatives["definition"]()
    assert all(torch.equal(call(), wanted) for call in alternatives.values())
    compare(benchmark, alternatives, moved_bytes=8 * case.kept.numel())


@pytest.mark.gpu
@pytest.mark.parametrize(("clients", "mix"), cohorts())
def test_vgg11_on_a_gpu(gpu, benchmark, clients, mix):
    found = on_device(Masters(vgg11(), ratios(mix, clients), gpu))
    on.report(benchmark, [found], op="select_units", clients=clients, mix=mix)
