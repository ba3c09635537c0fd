"""Norm, ReLU and pooling behind a layer, for all clients in launches of the CUDA engine, beside the library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch.nn.functional import batch_norm, max_pool2d, pad

from bench.kernels.device import Alternative, Call, Comparison, branches, compare, sets
from bench.kernels.operands import Parts, clients, filled, together
from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.definitions.rounding import rounded
from fedlps.engine.cuda.launches import Chain, Norm, Packed, Precision
from fedlps.engine.cuda.network import Activation, Network, Stage
from fedlps.engine.cuda.serving import launches_for
from fedlps_kernels.arena import Arena, arena
from fedlps_kernels.layout import Layout
from fedlps_kernels.places import PAD, packed, padded

Drawn = tuple[Parts, Parts]  # inputs and gradients of the outputs, (N, channels, height, width) of each client

# Of a gradient: where two values of a window nearly agree, or one is nearly 0, rounding decides, and the library rounds
# what it norms to bf16 before it looks for the maximum.
FLIPS: dict[Precision, float] = {"fp32": 1e-2, "tf32": 1e-2, "bf16": 0.3}


class Stages:
    """A stage of a cohort. kept: the clients' channels of so many; size: height and width; batch: N."""

    def __init__(
        self,
        kept: Sequence[int],
        channels: int,
        size: int,
        batch: int,
        pooled: bool,
        device: torch.device | str,
        precision: Precision,
    ) -> None:
        self.kept, self.pooled, self.device, self.precision = list(kept), pooled, torch.device(device), precision
        counts = torch.tensor(self.kept)[:, None]
        self.store = torch.bfloat16 if precision == "bf16" else torch.float32
        sides = (size, size // 2 if pooled else size)
        self.shapes = [(batch, side, side) for side in sides]
        self.before, self.behind = (arena(counts[:, 0], *shape, self.store, self.device) for shape in self.shapes)
        # a layer of one column, whose scale and shift the stage has
        table = [[0, -1, channels, 1, 1, 0, -1, channels, 2 * channels]]
        layout = Layout(torch.tensor(table), torch.tensor([0, channels]), 3 * channels)
        host = packed(layout, counts)
        vectors = torch.zeros(host.size + PAD, device=self.device)
        for first, own in zip(host.vectors[:, 0, 1].tolist(), self.kept, strict=True):
            vectors[first : first + own] = 1
        places = host.to(self.device)
        wide = int(padded(torch.tensor(channels)))
        mean, reciprocal = (torch.zeros(len(kept), wide, device=self.device) for _ in range(2))
        self.vectors = Packed(torch.zeros_like(vectors), places)
        held = Packed(vectors.to(self.store), places)
        self.chain = Chain(0, Norm(0, mean, reciprocal, held), True, "max" if pooled else None, 2 if pooled else 1)
        self.products, _ = launches_for(layout, precision, torch.float32, Buffers(self.device))
        activations = tuple(Activation(0, channels, side, side) for side in sides)
        operation = Stage(0, True, self.chain.pool, self.chain.window)
        self.products.prepare(Network((operation,), activations, channels), counts, batch, trains=True)
        self.samples = torch.full((len(kept),), batch, dtype=torch.int32, device=self.device)
        self._generator = torch.Generator(self.device).manual_seed(0)

    @property
    def sizes(self) -> tuple[int, int]:
        """Entries of all clients before and behind the stage."""
        before, behind = (sum(self.kept) * n * height * width for n, height, width in self.shapes)
        return before, behind

    def draw(self) -> Drawn:
        """Random."""
        before, behind = (
            [self._random(n, own, height, width) for own in self.kept] for n, height, width in self.shapes
        )
        return before, behind

    def _random(self, *shape: int) -> torch.Tensor:
        values = torch.randn(*shape, generator=self._generator, device=self.device)
        return rounded(values, self.precision).to(self.store)


def stage(name: str, case: Stages, *, backward: bool) -> Comparison:
    """Statistics and the pass; backward: the gradient, for which the statistics are there already."""
    before, behind = case.sizes
    # statistics read the inputs once more than the pass; so do the sums of a norm's gradient with both they read
    moved = case.store.itemsize * (2 * (before + behind) + before if backward else 2 * before + behind)
    drawn = [case.draw() for _ in range(sets(moved, case.device))]
    makes = {
        "client by client": ("alone", False),
        "graph, client by client": ("alone", True),
        "masked, whole widths": ("masked", True),
        "equal ratios stacked": ("equal", True),
    }
    others = [
        Alternative(title, partial(_library, case, drawn, kind, backward, captured), captured)
        for title, (kind, captured) in makes.items()
    ]
    ours = Alternative("ours", partial(_ours, case, drawn, backward))
    tolerance = FLIPS[case.precision] if backward else None
    alternatives = [ours, *others]
    return compare(name, alternatives, case.device, case.precision, moved_bytes=moved, tolerance=tolerance)


def _ours(case: Stages, drawn: list[Drawn], backward: bool) -> tuple[list[Call], Callable[[], Parts]]:
    norm = case.chain.norm
    assert norm is not None
    made: list[tuple[Call, Callable[[], Parts]]] = []
    for inputs, gradient in drawn:
        read = filled(case.before, inputs)
        if backward:
            case.products.statistics(read, case.samples, norm)
            given, result = filled(case.behind, gradient), filled(case.before, None)
            arguments = read, given, case.samples, result, case.chain, case.vectors
            made.append((partial(case.products.stage_gradient, *arguments), partial(clients, result)))
            continue
        outputs = filled(case.behind, None)
        made.append((partial(_forward, case, norm, read, outputs), partial(clients, outputs)))
    return [call for call, _ in made], made[0][1]


def _forward(case: Stages, norm: Norm, read: Arena, outputs: Arena) -> None:
    case.products.statistics(read, case.samples, norm)
    case.products.stage(read, case.samples, outputs, case.chain)


def _library(
    case: Stages, drawn: list[Drawn], kind: str, backward: bool, captured: bool
) -> tuple[list[Call], Callable[[], Parts]]:
    shared = together(kind, [(own,) for own in case.kept])
    calls: list[Call] = []
    first: list[Callable[[], torch.Tensor]] = []
    for inputs, gradient in drawn:
        run = [
            _bucket(case, *([of[client] for client in own] for of in (inputs, gradient)), backward) for own in shared
        ]
        first = first or run
        calls.append(branches(run, case.device) if captured else _in_turn(run))

    def results() -> Parts:
        found: dict[int, torch.Tensor] = {}
        for own, call in zip(shared, first, strict=True):
            for client, part in zip(own, call().chunk(len(own), dim=1), strict=True):
                found[client] = part[:, : case.kept[client]]
        return [found[client] for client in sorted(found)]

    return calls, results


def _bucket(case: Stages, inputs: Parts, gradient: Parts, backward: bool) -> Callable[[], torch.Tensor]:
    """Clients side by side in the channels, as wide as the widest: a norm treats each channel for itself."""
    wide = max(part.shape[1] for part in inputs)
    x, g = (
        torch.cat([pad(part, (0, 0, 0, 0, 0, wide - part.shape[1])) for part in parts], dim=1).contiguous(
            memory_format=torch.channels_last
        )
        for parts in (inputs, gradient)
    )
    scale, shift = (make(x.shape[1], device=x.device) for make in (torch.ones, torch.zeros))

    def forward(leaf: torch.Tensor) -> torch.Tensor:
        values = batch_norm(leaf, None, None, scale, shift, training=True).relu()
        return max_pool2d(values, 2) if case.pooled else values

    if not backward:
        return lambda: forward(x)
    leaves = [one.requires_grad_() for one in (x, scale, shift)]
    outputs = forward(x)
    return lambda: torch.autograd.grad(outputs, leaves, g, retain_graph=True)[0]


def _in_turn(calls: Sequence[Callable[[], torch.Tensor]]) -> Call:
    return lambda: [call() for call in calls]
