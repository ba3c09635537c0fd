"""A cohort's local round on the device: prepared once, then one step after another, then read once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch

from fedlps.engine.cohort import Indices
from fedlps.engine.cuda.capacity import Setting
from fedlps.engine.cuda.clock import Clock
from fedlps.engine.cuda.images import Images
from fedlps.engine.cuda.jobs import counts_of, load
from fedlps.engine.cuda.launches import Packed, Weights
from fedlps.engine.cuda.passes import Passes, Taken
from fedlps.engine.cuda.propagation import BothWays, Memory, Surroundings, placed
from fedlps.engine.plan import Job
from fedlps_kernels.layout import Layout
from fedlps_kernels.places import Places, compact, dense


class Round:
    """One part of a cohort. batches: per job, its steps' samples as rows of `images`."""

    def __init__(
        self,
        around: Surroundings,
        weights: Weights,
        setting: Setting,
        jobs: Sequence[Job],
        received: torch.Tensor,
        images: Images,
        batches: Sequence[Sequence[Indices]],
        room: dict[str, int],
    ) -> None:
        self.layout, self.products, self.weights = around.layout, around.products, weights
        self.setting, self.jobs, self.images = setting, jobs, images
        self.counts = counts_of(jobs, len(self.layout.groups) - 1)
        memory = Memory(around, self.counts, setting, room)
        self.state = load(jobs, received, self.layout, setting, memory, weights)
        self.ways = BothWays(around, self.counts, setting, memory)
        self.passes = Passes(jobs, self.counts.shape[1], setting, self.ways, memory)
        hosts = [dense(self.layout, len(jobs)), gathered(self.layout, self.counts)]
        own, self._compact = placed(around.buffers, "places of masters", hosts)
        self.masters = Packed(self.state.masters.view(-1), own)
        history = self.layout.units if setting.history else 0
        self.clock = Clock(around.buffers, *_tables(batches, images, setting), setting.dtype, history)
        self.clock.broken.copy_(~_finite(self.state.masters, all(job.start is None for job in jobs)))
        self.products.prepare(around.network, self.counts, setting.batch, setting.trains)
        self.key = setting, len(jobs), images.data.data_ptr(), images.data.shape

    def step(self) -> None:
        """One local step of all clients (specification, section 4); nothing in it waits for the device."""
        state, clock, ways, weights = self.state, self.clock, self.ways, self.weights
        clock.begin(state.kept)
        if state.learning is not None:
            weights.dropped_sums(state.masters, state.kept, state.counts, state.learning)
        self.products.gather(self.images.data, self.images.table, clock.now_indices, clock.samples, ways.arenas[0])
        for taken in self.passes.of_step(clock):
            self._run(taken)
        active = clock.samples, clock.broken
        if state.learning is not None:  # goes by the parameters and sums of before the update
            if state.learning.gates is not None:
                weights.gate_gradient(state.masters, ways.gradient, state.kept, state.counts, state.learning.gates)
            weights.importance_step(state.learning, state.rates, *active)
        optimised = state.pulls, state.rates, state.velocity, state.learning
        told = *optimised, *active, self.passes.widths
        weights.scatter_update(state.masters, ways.gradient, state.kept, state.counts, *told)
        clock.advance()
        if state.learning is not None:
            weights.select_units(state.learning, state.counts, clock.alive, state.kept)

    def _run(self, one: Taken) -> None:
        """Forward and backward through one pass."""
        state, ways = self.state, self.ways
        held = state.kept, state.counts
        self.weights.move(self.masters, ways.packed, *held, rounds=True, widths=one.widths)
        if ways.backward_packed is not ways.packed:
            self.weights.move(self.masters, ways.backward_packed, *held, rounds=True, widths=one.widths)
        ways.forward(one.samples, state.scale)
        answers = ways.logits_gradient, one.losses, one.hits, one.teacher
        self.products.loss(ways.logits, self.clock.now_labels, one.samples, *answers)
        ways.backward(one.samples, state.scale, one.gradient)

    def compact(self) -> tuple[torch.Tensor, list[int]]:
        """The kept entries of all clients behind one another, and how many each has. In the gradients' memory."""
        data = self.ways.gradient.data
        self.weights.move(self.masters, Packed(data, self._compact), self.state.kept, self.state.counts, rounds=False)
        return data, self.layout.compact_sizes(self.counts).tolist()

    def redundancy(self) -> torch.Tensor:
        """(C, U); 0 where nothing was learned."""
        if self.state.learning is None:
            return torch.zeros_like(self.state.kept, dtype=self.setting.dtype)
        return self.state.learning.redundancy


def gathered(layout: Layout, counts: torch.Tensor) -> Places:
    """As `compact`, without room behind a client's entries."""
    near, sizes = compact(layout, counts, 0), layout.compact_sizes(counts)
    first = (sizes.cumsum(0) - sizes)[:, None]
    vectors = torch.where(near.vectors < 0, -1, near.vectors + first[:, :, None])
    strides = near.row, near.column, near.inner
    return Places(near.weight + first, *strides, vectors, near.rows, near.columns, int(sizes.sum()))


def _tables(
    batches: Sequence[Sequence[Indices]], images: Images, setting: Setting
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Indices and labels (S, C, N) and sizes (S, C) of every step; steps that nobody has are empty."""
    shape = (setting.steps, len(batches), setting.batch)
    indices, sizes = numpy.zeros(shape, dtype=numpy.int64), numpy.zeros(shape[:2], dtype=numpy.int32)
    for client, own in enumerate(batches):
        for step, batch in enumerate(own):
            indices[step, client, : len(batch)], sizes[step, client] = batch, len(batch)
    labels = numpy.zeros(shape, dtype=numpy.int32)
    real = numpy.arange(setting.batch) < sizes[:, :, None]
    labels[real] = images.labels[indices[real]]
    return torch.from_numpy(indices), torch.from_numpy(labels), torch.from_numpy(sizes)


def _finite(masters: torch.Tensor, alike: bool) -> torch.Tensor:
    """(C,) or (1,), whether all of a client's parameters are; alike: one stands for all."""
    smallest, largest = torch.aminmax(masters[:1] if alike else masters, dim=1)
    return smallest.isfinite() & largest.isfinite()
