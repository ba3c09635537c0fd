"""Tile lists cover every client's result once, in an order that only placement depends on."""

import torch
from hypothesis import given, strategies

from fedlps_kernels.places import padded
from fedlps_kernels.tiles import pieces, tiles
from fedlps_kernels.tuning import Block

BLOCK = Block(64, 64, 32, 4, 3)
COUNTS = strategies.lists(strategies.tuples(*[strategies.integers(0, 4)] * 2, strategies.integers(0, 50)), max_size=6)


def made(counts: list[tuple[int, int, int]], splits: int) -> list[list[int]]:
    rows, columns, depth = torch.tensor(counts, dtype=torch.int64).reshape(-1, 3).T
    found = tiles(rows, columns, depth, BLOCK, splits)
    assert found.records.dtype == found.number.dtype == torch.int32
    assert found.number.tolist() == [len(found.records)]
    assert found.splits == splits
    return found.records.tolist()


@given(COUNTS, strategies.integers(1, 3))
def test_every_tile_once(counts: list[tuple[int, int, int]], splits: int) -> None:
    wanted = [
        [client, row, column, split]
        for client, (rows, columns, _) in enumerate(counts)
        for row in range(rows)
        for column in range(columns)
        for split in range(splits)
    ]
    assert sorted(made(counts, splits)) == wanted


@given(COUNTS)
def test_longest_sums_first_and_clients_together(counts: list[tuple[int, int, int]]) -> None:
    clients = [record[0] for record in made(counts, 1)]
    first = list(dict.fromkeys(clients))
    assert sorted(clients, key=first.index) == clients, "a client's tiles are apart"
    assert first == sorted(first, key=lambda client: -counts[client][2])


def test_a_clients_tiles_do_not_depend_on_the_others() -> None:
    """Row tiles change fastest, but for the splits of a tile."""
    alone = [record[1:] for record in made([(2, 2, 7)], 2)]
    assert alone == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1], [1, 1, 0], [1, 1, 1]]
    together = made([(3, 1, 9), (2, 2, 7), (0, 0, 8), (1, 4, 7)], 2)
    assert [record[1:] for record in together if record[0] == 1] == alone


def test_pieces_cover_the_pads() -> None:
    counts = torch.tensor([0, 1, 16, 17, 64, 65])
    assert pieces(counts, 16).tolist() == [0, 1, 1, 2, 4, 5]
    assert ((pieces(counts, 64) * 64) >= padded(counts)).all()
