"""A step's passes: which clients take which, of what width, and how their gradients become one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy
import torch

from fedlps.engine.cuda.capacity import Setting
from fedlps.engine.cuda.clock import Clock
from fedlps.engine.cuda.launches import Packed
from fedlps.engine.cuda.numbers import PLAIN
from fedlps.engine.cuda.propagation import BothWays, Memory
from fedlps.engine.cuda.terms import segment_of
from fedlps.engine.plan import Job
from fedlps_kernels.arena import Arena


@dataclass(frozen=True)
class Taken:
    """A pass of one step. samples: (C,), none of a client that does not take it. gradient, losses, hits: to be written.

    widths: (C, G) int32, the leading units that it runs; None: all that are held. teacher: logits; None: labels teach.
    """

    samples: torch.Tensor
    gradient: Packed
    losses: torch.Tensor
    hits: torch.Tensor
    widths: torch.Tensor | None = None
    teacher: Arena | None = None


class Passes:
    """The passes of jobs that share their numbers. Gradients are added up in `ways.gradient`.

    A narrow pass runs all that a client holds, from packs in which the entries of other units than the leading ones are
    0: then so are those units' activations, and every gradient of theirs.

    widths: (K, C, G) int32, the current step's, where all passes are narrow: what none of them takes stays as it is.
    """

    def __init__(self, jobs: Sequence[Job], groups: int, setting: Setting, ways: BothWays, memory: Memory) -> None:
        self.widths: torch.Tensor | None = None
        self._kinds, self._ways = setting.numbers.passes, ways
        self._outputs: dict[int | None, Arena] = {}
        if self._kinds == PLAIN:
            return
        buffers, clients = memory.buffers, len(jobs)
        widths, taken = _tables(jobs, groups, setting)
        self._every_width, self._every_taken = buffers.put("steps of passes", [widths, taken])
        self._widths = buffers.shaped("widths", tuple(widths.shape[1:]), torch.int32)
        self._samples = buffers.shaped("samples of passes", tuple(taken.shape[1:]), torch.int32)
        if all(kind.narrow for kind in self._kinds):
            self.widths = self._widths
        for number in setting.numbers.teachers:
            self._outputs[number] = replace(ways.logits, data=memory.take(f"outputs of pass {number}"))
        if len(self._kinds) > 1:
            self._later = Packed(memory.take("gradient of a pass"), ways.gradient.places)
            self._losses = buffers.shaped("loss of a pass", (clients,), setting.dtype)
            self._hits = buffers.shaped("hits of a pass", (clients,), torch.int32)

    def of_step(self, clock: Clock) -> Iterator[Taken]:
        """One after another, each to be computed before the next is asked for; the first tells loss and hits."""
        whole, told = self._ways.gradient, (clock.now_losses, clock.now_hits)
        if self._kinds == PLAIN:
            yield Taken(clock.samples, whole, *told)
            return
        torch.index_select(self._every_width, 0, clock.step, out=self._widths[None])
        torch.mul(self._every_taken.index_select(0, clock.step)[0], clock.samples, out=self._samples)
        for number, kind in enumerate(self._kinds):
            given = self._widths[number] if kind.narrow else None, self._outputs.get(kind.teacher)
            if number == 0:
                yield Taken(self._samples[number], whole, *told, *given)
                if kind.weight != 1:
                    whole.data.mul_(kind.weight)
            else:
                if kind.narrow:
                    self._later.data.zero_()  # who does not take the pass adds nothing
                yield Taken(self._samples[number], self._later, self._losses, self._hits, *given)
                size = min(len(whole.data), len(self._later.data))
                whole.data[:size].add_(self._later.data[:size], alpha=kind.weight)
            if number in self._outputs:
                kept, logits = self._outputs[number].data, self._ways.logits.data
                size = min(len(kept), len(logits))
                kept[:size].copy_(logits[:size])


def _tables(jobs: Sequence[Job], groups: int, setting: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every step widths (S, K, C, G), and whether the pass is taken (S, K, C); int32."""
    shape = (setting.steps, len(setting.numbers.passes), len(jobs))
    widths, taken = numpy.zeros((*shape, groups), dtype=numpy.int32), numpy.ones(shape, dtype=numpy.int32)
    for client, job in enumerate(jobs):
        for number, one in enumerate(segment_of(job).passes):
            own = (one.widths or ())[: setting.steps]
            if own:
                widths[: len(own), number, client] = [(0,) * groups if counts is None else counts for counts in own]
                taken[: len(own), number, client] = [counts is not None for counts in own]
    return torch.from_numpy(widths), torch.from_numpy(taken)
