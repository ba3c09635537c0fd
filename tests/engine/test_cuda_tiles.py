"""Lists of tiles of the CUDA engine's launches: made for each round, in memory that stays."""

import pytest
import torch

from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.network import network
from fedlps.models import build
from fedlps.program import Program
from fedlps.trace import derive

pytest.importorskip("triton")
from fedlps.engine.cuda.tiled import TiledProducts

GIGABYTE = 10**9


@pytest.fixture(scope="module")
def program() -> Program:
    return derive(build("vgg11", (3, 32, 32), 10, {}), (3, 32, 32))


def counts(program: Program, *ratios: float) -> torch.Tensor:
    return torch.tensor([program.counts(ratio) for ratio in ratios])


def test_other_counts_find_room_where_the_last_ones_lay(program: Program) -> None:
    buffers, chain = Buffers(torch.device("cpu")), network(program)
    products = TiledProducts(program.layout(), "tf32", buffers)
    held = []
    for ratios in ((0.5, 0.0625, 0.25), (1, 1, 1), (0.3, 1, 0.01)):
        products.prepare(chain, counts(program, *ratios), 20, True)
        lists = products._tiles
        held.append((buffers.generation, {key: one.records.data_ptr() for key, one in lists.items()}))
        for one in lists.values():
            number = int(one.number)
            assert 0 < number <= len(one.records)
            clients = one.records[:number, 0]
            assert set(clients.tolist()) == {0, 1, 2}
    assert held[0] == held[1] == held[2]
    weighted, norms = 9, 8
    assert len(lists) == 3 * weighted - 1 + 3 * norms


def test_what_they_take_is_counted_and_small(program: Program) -> None:
    """A thousand whole VGG11 would take this beside 37 GB of masters."""
    buffers, chain = Buffers(torch.device("cpu")), network(program)
    products = TiledProducts(program.layout(), "fp32", buffers)
    each = products.bytes(chain, counts(program, 1), 20, True)
    assert 1000 * each < 5 * GIGABYTE
    products.prepare(chain, counts(program, 0.5, 1, 0.25, 1), 20, True)
    assert buffers.bytes <= 4 * each
    evaluation = products.bytes(chain, counts(program, 1), 200, False)
    assert 0 < evaluation < each
