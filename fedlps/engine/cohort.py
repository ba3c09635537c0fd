"""A round's clients as the executors see them: sample indices in the order of the batches. numpy only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from fedlps.randomness import Purpose, stream

Indices = NDArray[numpy.int64]


@dataclass(frozen=True)
class Cohort:
    """The batches of C clients as three flat arrays, so that unequal clients need no padding.

    clients: (C,) ids. samples: training-sample indices in the order of use, client after client. steps: (T + 1,) edges
    of the steps within samples. edges: (C + 1,) edges of the clients within the T steps. sizes: (C,) training samples
    |D_k|. epoch_steps: (C,) steps per epoch. seeds: (C,) what a module that draws numbers itself (dropout) is seeded
    with.
    """

    clients: Indices
    samples: Indices
    steps: Indices
    edges: Indices
    sizes: Indices
    epoch_steps: Indices
    seeds: Indices

    def batches(self, client: int) -> Iterator[Indices]:
        """The batches of the client at a position of the cohort, step by step."""
        for step in range(self.edges[client], self.edges[client + 1]):
            yield self.samples[self.steps[step] : self.steps[step + 1]]


def cohort(
    seed: int,
    round_: int,
    clients: Indices,
    training: Sequence[Indices],
    *,
    epochs: int,
    batch: int,
    draw: tuple[int, ...] = (Purpose.BATCHES,),
) -> Cohort:
    """Batch orders of a round (section 4): per epoch a fresh permutation of the client's samples, the last batch
    shorter.

    training: per client its training-sample indices. Draws come from stream 5 of (round, client), or from what
    `draw` says before these two: the permutations, then the client's seed.
    """
    orders, seeds = [], []
    for client, own in zip(clients, training, strict=True):
        rng = stream(seed, *draw, round_, int(client))
        orders.append([own[rng.permutation(len(own))] for _ in range(epochs)])
        seeds.append(int(rng.integers(1 << 63)))
    return from_batches(
        clients,
        [[epoch[i : i + batch] for epoch in order for i in range(0, len(epoch), batch)] for order in orders],
        numpy.array([len(own) for own in training], dtype=numpy.int64),
        epoch_steps=numpy.array([-(-len(own) // batch) for own in training], dtype=numpy.int64),
        seeds=numpy.array(seeds, dtype=numpy.int64),
    )


def from_batches(
    clients: Indices,
    batches: Sequence[Sequence[Indices]],
    sizes: Indices,
    *,
    epoch_steps: Indices | None = None,
    seeds: Indices | None = None,
) -> Cohort:
    """A cohort of given batches per client, by default of one epoch; seeds are 0 if not given."""
    flat = [step for client in batches for step in client]
    return Cohort(
        clients=numpy.asarray(clients, dtype=numpy.int64),
        samples=numpy.concatenate([numpy.empty(0, dtype=numpy.int64), *flat]),
        steps=numpy.cumsum([0, *map(len, flat)], dtype=numpy.int64),
        edges=numpy.cumsum([0, *map(len, batches)], dtype=numpy.int64),
        sizes=sizes,
        epoch_steps=numpy.array([len(client) for client in batches]) if epoch_steps is None else epoch_steps,
        seeds=numpy.zeros(len(batches), dtype=numpy.int64) if seeds is None else seeds,
    )
