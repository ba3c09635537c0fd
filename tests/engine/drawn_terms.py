"""Drawn plans of every term there is, on a fixed model and cohort."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy
import torch
from hypothesis import strategies as st
from torch import nn

from fedlps.engine.cohort import Cohort, from_batches
from fedlps.engine.plan import Change, Hold, Job, Learned, Pass, Plan, Pull, Segment
from fedlps.engine.result import Executor
from fedlps.models import chain
from fedlps.program import Program
from fedlps.recipe.exits import with_exits
from fedlps.trace import derive
from tests.engine.cases import first_units, samples
from tests.engine.changes import halve, prune, swap
from tests.engine.drawn_jobs import nearly_tied, random_units, start_of
from tests.engine.engines import both

PROBES = frozenset({"kept", "losses", "parameters", "mask", "gradients", "squared_losses"})
SHAPE, CLASSES, COUNT = (2, 7, 6), 3, 40
STEPS = [
    *(["conv", 6, 3, 1, 1], ["maxpool", 2], ["relu"], ["conv", 5, 2, 1, 0], ["relu"], ["avgpool", 2]),
    *(["flatten"], ["linear", 7], ["relu"], ["linear", CLASSES]),
]
STEPS_PER_CLIENT = (7, 4, 1)


def plain() -> nn.Module:
    """A chain of two convolutions and two linear layers, one of each without bias."""
    module = chain(SHAPE, STEPS)
    module[3].bias = None
    module[7].bias = None
    return module


def normed() -> nn.Module:
    """The same chain with a norm behind every layer but the last."""
    steps = []
    for step in STEPS:
        steps += [step, ["norm"]] if step[0] == "conv" else [step]
    modules = list(chain(SHAPE, steps))
    hidden = next(place for place, module in enumerate(modules) if isinstance(module, nn.Linear))
    modules.insert(hidden + 1, nn.BatchNorm1d(7, track_running_stats=False))
    return nn.Sequential(*modules)


def branched() -> nn.Module:
    """The same chain with two exits more."""
    module = chain(SHAPE, STEPS)
    return with_exits(module, derive(module, SHAPE))


@dataclass(frozen=True)
class Setting:
    """A model, both executors, parameters to start from and a cohort of three unequal clients."""

    program: Program
    engine: Executor
    reference: Executor
    start: torch.Tensor
    cohort: Cohort

    @classmethod
    def of(cls, build: Callable[[], nn.Module], dtype: torch.dtype = torch.float64) -> "Setting":
        """Client 0 has two epochs and a bit, client 1 one and a bit, client 2 a single step; last batches are short."""
        program, engine, reference = both(build(), SHAPE, samples(SHAPE, CLASSES, COUNT), dtype)
        rng = numpy.random.default_rng(5)
        sizes = ((9, 9, 4, 9, 9, 4, 9), (5, 5, 2, 5), (1,))
        batches = [[rng.choice(COUNT, size, replace=False) for size in own] for own in sizes]
        epoch_steps = numpy.array([3, 3, 1])
        cohort = from_batches(numpy.arange(3), batches, numpy.array([22, 12, 1]), epoch_steps=epoch_steps)
        return cls(program, engine, reference, start_of(program, 7, dtype), cohort)

    def units(self, ratio: float, seed: int = 0) -> Hold:
        """Some units, fixed."""
        counts = self.program.counts(ratio)
        return Hold(counts, random_units(self.program, counts, numpy.random.default_rng(seed)))

    def leading(self, ratio: float) -> Hold:
        """The first units."""
        counts = self.program.counts(ratio)
        return Hold(counts, first_units(self.program, counts))

    def mask(self, share: float, seed: int = 0) -> torch.Tensor:
        """(P,) bool, a share of the entries."""
        return torch.from_numpy(numpy.random.default_rng(seed).random(self.program.size) < share)

    def other(self, seed: int) -> torch.Tensor:
        """Parameters drawn anew."""
        return start_of(self.program, 100 + seed, self.start.dtype)


@st.composite
def plans(draw: st.DrawFn, setting: Setting, depths: int = 1) -> Plan:
    """One to four jobs in any order over the clients, each with any of the terms."""
    clients = draw(st.lists(st.integers(0, 2), min_size=1, max_size=4))
    probes = draw(st.sampled_from([PROBES, PROBES, frozenset(), frozenset({"kept"}), frozenset({"gradients"})]))
    return Plan(tuple(draw(_jobs(setting, client, depths)) for client in clients), probes)


@st.composite
def _jobs(draw: st.DrawFn, setting: Setting, client: int, depths: int) -> Job:
    rng = numpy.random.default_rng(draw(st.integers(0, 2**32)))
    program = setting.program
    counts = program.counts(draw(st.sampled_from([1.0, 0.6, 0.3])))
    kind = draw(st.sampled_from(["learned", "random", "leading"]))
    units: torch.Tensor | Learned = random_units(program, counts, rng)
    if kind != "random":
        units = nearly_tied(program, rng, setting.start.dtype) if kind == "learned" else first_units(program, counts)
    mask = setting.mask(0.6, client) if draw(st.booleans()) else None
    depth = draw(st.sampled_from([None, *range(1, depths + 1)]))
    pulls = tuple(
        Pull(draw(st.sampled_from([0.01, 0.4])), setting.other(number)) for number in range(draw(st.integers(0, 2)))
    )
    return Job(
        client,
        Hold(counts, units, mask, depth),
        draw(_segments(setting, STEPS_PER_CLIENT[client], counts if kind == "leading" else None)),
        start=setting.other(client) if draw(st.booleans()) else None,
        pulls=pulls,
        scale=tuple(rng.uniform(0.5, 2, len(counts)).tolist()) if draw(st.booleans()) else None,
        penalty=draw(st.sampled_from([0.0, 0.1])),
        mutual=draw(st.sampled_from([0.0, 0.7])),
        destination=draw(st.sampled_from(["upload", "personal"])),
    )


@st.composite
def _segments(draw: st.DrawFn, setting: Setting, steps: int, widest: tuple[int, ...] | None) -> tuple[Segment, ...]:
    """Up to three segments; some of them may find no step left. widest: of their widths; None: they have none."""
    segments, done = [], 0
    for number in range(draw(st.integers(1, 3))):
        asked = draw(st.sampled_from([None, 1, 2, 3]))
        own = steps - done if asked is None else min(asked, steps - done)
        changes: list[Change | None] = [None, halve, prune]
        after = draw(st.sampled_from([*changes, swap] if own else changes))
        segments.append(
            Segment(
                draw(st.sampled_from([0.05, 0.2])),
                draw(st.sampled_from([0.0, 0.7])),
                draw(st.sampled_from([0.0, 0.02])),
                draw(st.sampled_from([0.0, 0.1, 1e6])),
                asked,
                draw(_passes(setting.program, own, widest)),
                setting.mask(0.5, 9) if draw(st.booleans()) else None,
                carry_velocity=number > 0 and draw(st.booleans()),
                after=after,
                after_gradient=after is swap,
            )
        )
        done += own
    return tuple(segments)


@st.composite
def _passes(draw: st.DrawFn, program: Program, steps: int, widest: tuple[int, ...] | None) -> tuple[Pass, ...]:
    """Up to three passes; the first is always taken, and later ones may refer to those that are."""
    passes: list[Pass] = []
    for number in range(draw(st.sampled_from([1, 1, 2, 3]))):
        taken = [place for place, one in enumerate(passes) if one.widths is None or None not in one.widths]
        at = tuple(
            (draw(st.sampled_from(taken)), draw(st.sampled_from([-0.2, 0.3])))
            for _ in range(draw(st.integers(0, 2)) if taken else 0)
        )
        narrow = [tuple(map(min, program.counts(ratio), widest or (0,))) for ratio in (0.5, 0.2, 1.0)]
        widths = [*narrow, *([None] if number else [])]
        batch = draw(st.sampled_from([0, 0, 0, 1, 2, -1]))
        teachers = [place for place in taken if passes[place].batch == batch]  # outputs for the same samples
        passes.append(
            Pass(
                batch=batch,
                at=at,
                weight=draw(st.sampled_from([1.0, 0.0, -0.5])),
                widths=tuple(draw(st.sampled_from(widths)) for _ in range(steps))
                if widest and draw(st.booleans())
                else None,
                teacher=draw(st.sampled_from([None, *teachers])),
            )
        )
    return tuple(passes)
