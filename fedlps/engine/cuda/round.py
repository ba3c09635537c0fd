"""A cohort's local round on the device: prepared once, then one step after another, then read once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch

from fedlps.engine.cohort import Indices
from fedlps.engine.cuda import capacity
from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.capacity import Need, Setting
from fedlps.engine.cuda.clock import Clock
from fedlps.engine.cuda.images import Images
from fedlps.engine.cuda.jobs import counts_of, load
from fedlps.engine.cuda.launches import Launches, Packed
from fedlps.engine.cuda.network import Network
from fedlps.engine.cuda.propagation import Propagation, placed
from fedlps.engine.plan import Job, Learned
from fedlps_kernels.layout import Layout
from fedlps_kernels.places import Places, compact, dense


class Round:
    """One part of a cohort. batches: per job, its steps' sample indices as rows of `images`."""

    def __init__(
        self,
        network: Network,
        layout: Layout,
        launches: Launches,
        buffers: Buffers,
        setting: Setting,
        jobs: Sequence[Job],
        received: torch.Tensor,
        images: Images,
        batches: Sequence[Sequence[Indices]],
        room: dict[str, int],
    ) -> None:
        self.layout, self.launches, self.setting, self.images = layout, launches, setting, images
        self.jobs = jobs
        self.counts = counts_of(jobs, len(layout.groups) - 1)
        needs = capacity.needs(network, layout, self.counts, setting)

        def take(name: str, need: Need) -> torch.Tensor:
            size = int(need.entries.sum())
            data = buffers.take(name, size, need.dtype, room.get(name, 0))
            data[:size].zero_()
            return data

        weights = {name: needs.pop(name) for name in ("masters", "velocity") if name in needs}
        self.state = load(jobs, received, layout, setting, weights, buffers, take, launches.weights)
        self.propagation = Propagation(network, layout, launches.products, self.counts, setting, needs, buffers, take)
        dense_places, self._gathered = dense(layout, len(jobs)), gathered(layout, self.counts)
        at = placed(buffers, "places of masters", [dense_places, self._gathered])
        self.masters, self._compact = Packed(self.state.masters.view(-1), at[0]), at[1]
        self.clock = self._clock(buffers, batches, images)
        alike = all(job.start is None for job in jobs)
        smallest, largest = torch.aminmax(self.state.masters[:1] if alike else self.state.masters, dim=1)
        self.clock.broken.copy_(~(smallest.isfinite() & largest.isfinite()))
        widest = torch.tensor([max(map(len, own), default=0) for own in batches])
        prepared = (network, self.counts, widest, self.propagation.host)
        self.stamp = buffers.generation, launches.products.prepare(*prepared)
        self.key = setting, len(jobs)

    def _clock(self, buffers: Buffers, batches: Sequence[Sequence[Indices]], images: Images) -> Clock:
        steps = max((len(own) for own in batches), default=0)
        shape = (steps, len(self.jobs), self.setting.batch)
        indices, sizes = numpy.zeros(shape, dtype=numpy.int64), numpy.zeros(shape[:2], dtype=numpy.int32)
        for client, own in enumerate(batches):
            for step, batch in enumerate(own):
                indices[step, client, : len(batch)] = batch
                sizes[step, client] = len(batch)
        labels = torch.from_numpy(images.labels[indices].astype(numpy.int32))
        history = self.layout.units if self.setting.history else 0
        tables = torch.from_numpy(indices), labels, torch.from_numpy(sizes)
        return Clock(buffers, *tables, self.setting.steps, self.setting.dtype, history)

    def step(self) -> None:
        """One local step of all clients (specification, section 4); nothing in it waits for the device."""
        state, clock, ways = self.state, self.clock, self.propagation
        products, weights = self.launches
        clock.begin(state.kept)
        if state.learning is not None:
            weights.dropped_sums(state.masters, state.kept, state.counts, state.learning)
        weights.move(self.masters, ways.packed, state.kept, rounds=True)
        if ways.backward_packed is not ways.packed:
            weights.move(self.masters, ways.backward_packed, state.kept, rounds=True)
        products.gather(self.images.data, self.images.line, clock.now_indices, clock.samples, ways.arenas[0])
        ways.forward(clock.samples, state.scale)
        answers = clock.now_losses, clock.now_hits
        products.loss(ways.logits, clock.now_labels, clock.samples, ways.logits_gradient, *answers)
        ways.backward(clock.samples, state.scale)
        assert ways.gradient is not None
        if state.learning is not None:
            given = state.learning, state.masters, ways.gradient, state.kept, state.rates
            weights.importance_step(*given, clock.samples, clock.broken)
        optimised = state.pulls, state.rates, state.velocity, state.learning
        weights.scatter_update(state.masters, ways.gradient, state.kept, *optimised, clock.samples, clock.broken)
        clock.advance()
        if state.learning is not None:
            weights.select_units(state.learning, state.counts, clock.alive, state.kept)

    def compact(self) -> tuple[torch.Tensor, list[int]]:
        """The kept entries of all clients behind one another, and how many each has. In the gradients' memory."""
        assert self.propagation.gradient is not None
        data = self.propagation.gradient.data
        self.launches.weights.move(self.masters, Packed(data, self._compact), self.state.kept, rounds=False)
        return data, self.layout.compact_sizes(self.counts).tolist()

    def redundancy(self) -> torch.Tensor:
        """(C, U); 0 where nothing was learned."""
        if self.state.learning is None:
            return torch.zeros_like(self.state.kept, dtype=self.setting.dtype)
        learned = torch.tensor([isinstance(job.hold.units, Learned) for job in self.jobs])
        d = self.state.learning.redundancy
        return torch.where(learned.to(d.device)[:, None], d, 0)


def gathered(layout: Layout, counts: torch.Tensor) -> Places:
    """As `compact`, without room behind a client's entries."""
    near = compact(layout, counts, 0)
    ends = layout.compact_sizes(counts).cumsum(0)
    first = (ends - layout.compact_sizes(counts))[:, None]
    vectors = torch.where(near.vectors < 0, -1, near.vectors + first[:, :, None])
    sizes = (near.rows, near.columns, int(ends[-1]) if len(ends) else 0)
    return Places(near.weight + first, near.row, near.column, near.inner, vectors, *sizes)
