"""A cohort's masters, selections and gradients on a device: what the engine's kernels over weights are measured on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from bench.kernels.device import Alternative, Call, branches
from bench.kernels.operands import Parts, together
from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.definitions.entries import positions
from fedlps.engine.cuda.launches import Learning, Packed, Precision
from fedlps.engine.cuda.serving import launches_for
from fedlps_kernels.layout import BIAS, COLUMN_GROUP, COLUMNS, INNER, ROW_GROUP, ROWS, SHIFT, WEIGHT, Layout
from fedlps_kernels.places import PAD, dense, packed

Bucket = Callable[[], torch.Tensor]
Buckets = list[tuple[list[int], Bucket]]
CHECKED = 10  # clients whose results are compared


class Masters:
    """C clients of these ratios on one model; all begin with the same random weights.

    counts: (C, G) int32 and kept: (C, U) int32 on the device; learning: with distinct redundancies.
    """

    def __init__(
        self, layout: Layout, ratios: Sequence[float], device: torch.device | str, precision: Precision = "tf32"
    ) -> None:
        self.layout, self.device, self.precision = layout, torch.device(device), precision
        self.store = torch.bfloat16 if precision == "bf16" else torch.float32
        units = layout.groups.diff().to(torch.float64)
        self.host = (torch.tensor(ratios, dtype=torch.float64)[:, None] * units).long().clamp(min=1)
        self.counts = self.host.to(self.device, torch.int32)
        self.samples = torch.ones(len(ratios), dtype=torch.int32, device=self.device)
        self.broken = torch.zeros_like(self.samples)
        self.generator = torch.Generator(self.device).manual_seed(0)
        self.received = self.random(layout.parameters)
        self.masters = self.received.repeat(len(ratios), 1)
        _, self.weights = launches_for(layout, precision, torch.float32, Buffers(self.device))
        self.places = packed(layout, self.host).to(self.device)
        self.kept = torch.full((len(ratios), layout.units), -1, dtype=torch.int32, device=self.device)
        self.learning = self.draw()
        self.weights.select_units(self.learning, self.counts, self.samples, self.kept)
        self.whole = dense(layout, len(ratios)).to(self.device)

    @property
    def entries(self) -> int:
        """Kept, of all clients."""
        return int(self.layout.compact_sizes(self.host).sum())

    def random(self, *shape: int) -> torch.Tensor:
        """Normal."""
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def draw(self) -> Learning:
        """Redundancies of which no two are equal, and sums."""
        shape = len(self.samples), self.layout.units
        ranks = torch.rand(shape, generator=self.generator, device=self.device).argsort(dim=1)
        sums, dropped = self.random(*shape).abs(), torch.zeros(shape, device=self.device)
        return Learning(ranks / shape[1], 1.0, 0.0, "mean", None, sums, dropped, torch.zeros_like(self.counts))

    def reset(self) -> None:
        """All clients begin again."""
        self.masters.copy_(self.received.expand_as(self.masters))

    def room(self) -> Packed:
        """For packs, as products read them."""
        return Packed(torch.zeros(self.places.size + PAD, dtype=self.store, device=self.device), self.places)

    def of(self, packs: Packed) -> Parts:
        """The first clients' entries of packs, in compact order."""
        return [packs.data[positions(packs.places, self.layout, client)] for client in self.checked]

    @property
    def checked(self) -> range:
        """The first clients."""
        return range(min(len(self.samples), CHECKED))

    def flat(self, client: int) -> torch.Tensor:
        """As `Layout.entries`, made on the device: (n,) int64."""
        edges, pieces = self.layout.groups.tolist(), []
        for fields in self.layout.table.tolist():
            rows, columns = (
                torch.arange(fields[most], device=self.device)
                if fields[group] < 0
                else self.kept[client, edges[fields[group]] :][: self.host[client, fields[group]]].long()
                for group, most in ((ROW_GROUP, ROWS), (COLUMN_GROUP, COLUMNS))
            )
            inner = torch.arange(fields[INNER], device=self.device)
            blocks = (rows[:, None] * fields[COLUMNS] + columns)[:, :, None] * fields[INNER] + inner
            pieces.append((fields[WEIGHT] + blocks).flatten())
            pieces.extend(rows + fields[vector] for vector in range(BIAS, SHIFT + 1) if fields[vector] >= 0)
        return torch.cat(pieces)

    def shared(
        self,
        kind: str,
        make: Callable[[list[int], torch.Tensor], Bucket],
        results: Callable[[Buckets], Parts],
        *,
        before: Callable[[], None] = lambda: None,
        captured: bool = True,
    ) -> Alternative:
        """One call per bucket of clients, which is given the positions of their entries, (n, N); `together` says who.

        make: the call, of clients and positions. results: by client, behind one call of each bucket. before: the first.
        """

        def made() -> tuple[list[Call], Callable[[], Parts]]:
            before()
            every = together(kind, [tuple(row) for row in self.host.tolist()])
            buckets = [(own, make(own, torch.stack([self.flat(client) for client in own]))) for own in every]
            run = [call for _, call in buckets]
            whole = branches(run, self.device) if captured else lambda: [call() for call in run]
            return [whole], lambda: results(buckets)

        spelled = {"alone": "client by client", "equal": "equal ratios stacked"}[kind]
        return Alternative(f"graph, {spelled}" if captured else spelled, made, captured)


def by_client(buckets: Buckets) -> Parts:
    """What the buckets' calls return: a row per client."""
    found: dict[int, torch.Tensor] = {}
    for own, call in buckets:
        found.update(zip(own, call(), strict=True))
    return [found[client] for client in sorted(found)[:CHECKED]]
