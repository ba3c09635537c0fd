"""Batch orders: the bound draws, clients of unequal sizes, and short last batches."""

import numpy

from fedlps.engine.cohort import cohort, from_batches
from fedlps.randomness import stream


def indices(*values: int) -> numpy.ndarray:
    return numpy.array(values, dtype=numpy.int64)


def batches_of(cohort_, position: int) -> list[list[int]]:
    return [batch.tolist() for batch in cohort_.batches(position)]


def test_each_epoch_is_a_fresh_permutation_of_the_clients_stream():
    own = {7: indices(40, 41, 42, 43, 44), 2: indices(9, 8, 5)}
    got = cohort(3, 6, indices(7, 2), [own[7], own[2]], epochs=2, batch=2)
    for position, client in enumerate((7, 2)):
        rng = stream(3, 5, 6, client)
        want = []
        for _ in range(2):
            order = own[client][rng.permutation(len(own[client]))].tolist()
            want += [order[start : start + 2] for start in range(0, len(order), 2)]
        assert batches_of(got, position) == want
        assert got.seeds[position] == rng.integers(1 << 63)
    assert [len(batch) for batch in got.batches(0)] == [2, 2, 1, 2, 2, 1]
    assert [len(batch) for batch in got.batches(1)] == [2, 1, 2, 1]
    assert got.clients.tolist() == [7, 2]
    assert got.sizes.tolist() == [5, 3]


def test_the_order_depends_on_round_and_client_alone():
    own = [numpy.arange(20) for _ in range(3)]
    together = cohort(0, 1, indices(4, 5, 6), own, epochs=1, batch=8)
    alone = cohort(0, 1, indices(5), own[:1], epochs=1, batch=8)
    assert batches_of(together, 1) == batches_of(alone, 0)
    assert together.seeds[1] == alone.seeds[0]
    assert batches_of(together, 0) != batches_of(together, 1)
    assert batches_of(alone, 0) != batches_of(cohort(0, 2, indices(5), own[:1], epochs=1, batch=8), 0)
    assert batches_of(alone, 0) != batches_of(cohort(1, 1, indices(5), own[:1], epochs=1, batch=8), 0)


def test_a_batch_larger_than_the_client_and_a_client_of_one_sample():
    got = cohort(0, 0, indices(0, 1), [indices(3, 4), indices(9)], epochs=2, batch=100)
    assert [sorted(batch) for batch in batches_of(got, 0)] == [[3, 4], [3, 4]]
    assert batches_of(got, 1) == [[9], [9]]


def test_an_empty_cohort():
    got = cohort(0, 0, indices(), [], epochs=2, batch=4)
    assert len(got.clients) == len(got.samples) == len(got.sizes) == len(got.seeds) == 0
    assert got.steps.tolist() == got.edges.tolist() == [0]


def test_given_batches():
    got = from_batches(indices(5, 6, 7), [[indices(1, 2), indices(3)], [], [indices(4)]], indices(3, 0, 1))
    assert [batches_of(got, position) for position in range(3)] == [[[1, 2], [3]], [], [[4]]]
    assert got.samples.tolist() == [1, 2, 3, 4]
    assert got.steps.tolist() == [0, 2, 3, 4]
    assert got.edges.tolist() == [0, 2, 2, 3]
    assert got.seeds.tolist() == [0, 0, 0]
    assert {array.dtype for array in (got.clients, got.samples, got.steps, got.edges)} == {numpy.dtype(numpy.int64)}
