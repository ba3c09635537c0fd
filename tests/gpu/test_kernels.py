"""The CUDA part on a GPU; tests/fibers runs the same checks with its stand-in."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from fedlps_kernels import Layout, backends, native, places
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.scatter_update import cuda as updating
from fedlps_kernels.select_units import cuda as selection
from tests.fibers.compare import assert_near
from tests.fibers.exercise import everything, several_turns, wide_case
from tests.fibers.ops import alone_as_together, results
from tests.kernels.cases import Case, cohort, large_case, small_case
from tests.kernels.compare import assert_same

pytestmark = pytest.mark.gpu
DTYPES = [torch.float32, torch.float64]


def vgg_case(clients: int = 10) -> Case:
    """Three of VGG11's layers: rows of 4608 entries, groups of 512 units."""
    widths, table, reached = [64, 256, 512, 512], [], 0
    for group, (columns, rows) in enumerate(pairwise(widths)):
        weight = rows * columns * 9
        table.append([group, group - 1, rows, columns, 9, reached, reached + weight, -1, -1])
        reached += weight + rows
    edges = torch.tensor([0, *widths[1:]]).cumsum(0)
    return cohort(Layout(torch.tensor(table), edges, reached), clients, torch.Generator().manual_seed(0))


CASES = [small_case, several_turns, wide_case, large_case, vgg_case]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("made", CASES)
def test_kernels_agree_with_the_definitions(gpu, made: Callable[[], Case], dtype):
    for name, got, want in everything(made(), dtype, gpu):
        assert_near(name, got, want)


@pytest.mark.parametrize("made", CASES)
def test_the_same_bits_again(gpu, made: Callable[[], Case]):
    first = [got.clone() for _, got, _ in everything(made(), torch.float32, gpu)]
    for (name, got, _), before in zip(everything(made(), torch.float32, gpu), first, strict=True):
        assert_same(name, got, before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("made", CASES)
def test_a_client_alone_has_the_same_bits(gpu, made: Callable[[], Case], dtype):
    alone_as_together(made(), dtype, gpu)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ops_agree_with_the_definitions(gpu, monkeypatch, dtype):
    through = results(large_case(), dtype, gpu)
    monkeypatch.setattr(native, "load", lambda: (None, "not here"))
    for name, want in results(large_case(), torch.float64).items():
        assert_near(name, through[name], want)


def test_backends_name_the_gpu(gpu):
    serving = {line.op: line.cuda for line in backends()}
    assert serving["select_units"].startswith("native (built for ")


def test_a_captured_step_follows_the_selection(gpu):
    """Selection, update and sums in one graph: a replay with other scores is what the launches alone give."""
    replayed, launched = Step(gpu), Step(gpu)
    replayed.run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        replayed.run()
    replayed.reset()
    for _ in range(3):
        scores = launched.case.values(*launched.scores.shape, dtype=torch.float32).to(gpu)
        for each in (replayed, launched):
            each.scores.copy_(scores)
        graph.replay()
        launched.run()
        for name in ("kept", "weights", "sums"):
            assert_same(name, getattr(replayed, name), getattr(launched, name))


class Step:
    """One client's step without products: all its memory is made once."""

    def __init__(self, device: str) -> None:
        self.case = small_case()
        self.model = OnDevice.of(self.case.layout, device)
        self.counts = self.case.counts.to(device)
        self.packed = places.packed(self.case.layout, self.case.counts).to(device)
        self.gradient = torch.full((self.packed.size,), 0.5, device=device)
        self.lr = torch.full((1,), 0.25, device=device)
        self.room = updating.ClipRoom.of(3, self.model)
        self.scores, self.sums, self.dropped = (torch.zeros(3, 9, device=device) for _ in range(3))
        self.kept, self.ranks = (torch.full((3, 9), -1, dtype=torch.int32, device=device) for _ in range(2))
        self.changed = torch.zeros_like(self.counts)
        self.weights = torch.ones(3, 184, device=device)

    def reset(self) -> None:
        self.kept.fill_(-1)
        self.weights.fill_(1)
        self.sums.zero_()
        self.dropped.zero_()

    def run(self) -> None:
        cohort = self.kept, self.counts
        selection.select_units(self.scores, self.counts, self.model, self.kept, changed=self.changed)
        updating.rank_units(*cohort, self.model, self.ranks)
        updating.dropped_sums(self.weights, *cohort, self.ranks, self.model, self.dropped, changed=self.changed)
        told = {"dropped": self.dropped, "sums": self.sums, "clip": 1.0, "room": self.room}
        updating.scatter_update(self.weights, self.gradient, self.packed, [], *cohort, self.model, lr=self.lr, **told)
