"""Every function of the CUDA part once on a drawn cohort, through what Python calls, beside its definition in float64.

`python -m tests.fibers.exercise MODULE [FILE:LINE ...]` does it under a sanitizer; FILE:LINE: barriers to leave out.
"""

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import ModuleType

import torch

from fedlps_kernels import Layout, native, places
from fedlps_kernels.gather_weights import cuda as gathering
from fedlps_kernels.gather_weights import definition as gathering_defined
from fedlps_kernels.importance_step import cuda as importance
from fedlps_kernels.importance_step import definition as importance_defined
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.scatter_aggregate import cuda as aggregation
from fedlps_kernels.scatter_aggregate import definition as aggregation_defined
from fedlps_kernels.scatter_update import cuda as updating
from fedlps_kernels.scatter_update import definition as updating_defined
from fedlps_kernels.select_units import cuda as selection
from fedlps_kernels.select_units import definition as selection_defined
from fedlps_kernels.unit_abs_sum import cuda as sums
from fedlps_kernels.unit_abs_sum import definition as sums_defined
from tests.kernels.cases import Case, cohort

Outcome = tuple[str, torch.Tensor, torch.Tensor]  # name, what came out, the definition's in float64 or the same bits


def everything(case: Case, dtype: torch.dtype, device: str = "cpu") -> Iterator[Outcome]:
    """What each function makes of the case, on a device that has it."""
    on = Made(case, dtype, device)
    steps = on.summed, on.selected, on.learned, on.moved, on.updated, on.narrowed, on.resummed, on.gated, on.aggregated
    for step in steps:
        yield from step()


class Made:
    """One case on a device: `draw` gives the same numbers there and, in float64, for the definition."""

    def __init__(self, case: Case, dtype: torch.dtype, device: str) -> None:
        self.case, self.dtype, self.device = case, dtype, device
        self.layout, self.clients = case.layout, case.clients
        self.model = OnDevice.of(case.layout, device)
        self.kept, self.counts = case.kept.to(device), case.counts.to(device)
        self.widths = case.widths(2)

    def draw(self, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
        drawn = self.case.values(*shape, dtype=self.dtype)
        return drawn.to(self.device, copy=True), drawn.double()

    def empty(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Poisoned: what is not written shows."""
        wanted = dtype or self.dtype
        return torch.full(shape, torch.nan if wanted.is_floating_point else 77, dtype=wanted, device=self.device)

    def summed(self) -> Iterator[Outcome]:
        weights, exact = self.draw(self.clients, self.layout.parameters)
        got = self.empty(self.clients, self.layout.units)
        sums.unit_abs_sum(weights, self.model, got)
        yield "unit_abs_sum", got, sums_defined.unit_abs_sum(exact, self.layout)

    def selected(self) -> Iterator[Outcome]:
        scores, exact = self.draw(self.clients, self.layout.units)
        for name, given, wanted in (("drawn", scores, exact), ("tied", scores.round(), exact.round())):
            for negated in (False, True):
                got = self.empty(self.clients, self.layout.units, dtype=torch.int32)
                selection.select_units(given, self.counts, self.model, got, negated=negated)
                want = selection_defined.select_units(
                    -wanted if negated else wanted, self.case.counts, self.layout.groups
                )
                yield f"select_units {name}", got, want

    def learned(self) -> Iterator[Outcome]:
        (d, exact), (a, exact_a), (t, exact_t) = (self.draw(self.clients, self.layout.units) for _ in range(3))
        lr = torch.full((1,), 0.25, dtype=self.dtype, device=self.device)
        for reduction in ("mean", "sum"):
            numbers = {"lam": 0.5, "kappa": 2.0, "reduction": reduction}
            got = self.empty(*d.shape)
            importance.importance_step(d, a, t, self.model, got, lr=lr, **numbers)
            want = importance_defined.importance_step(exact, exact_a, exact_t, self.layout.groups, lr=0.25, **numbers)
            yield f"importance_step {reduction}", got, want

    def moved(self) -> Iterator[Outcome]:
        forms = {
            "dense": places.dense(self.layout, self.clients),
            "compact": places.compact(self.layout, self.case.counts, self.case.capacity),
            "packed": places.packed(self.layout, self.case.counts),
            "transposed": places.transposed(self.layout, self.case.counts),
        }
        roundings = ["none"] + ["tf32", "bf16"] * (self.dtype == torch.float32)
        for here, there in (("dense", "compact"), ("dense", "packed"), ("dense", "transposed"), ("compact", "packed"),
                            ("compact", "dense"), ("packed", "compact"), ("transposed", "dense")):  # fmt: skip
            values, _ = self.draw(forms[here].size)
            kept = {name: self.kept for name, form in (("taken", here), ("placed", there)) if form == "dense"}
            for rounding, widths in product(roundings if there != "dense" else ["none"], (None, self.widths[0])):
                dtype = torch.bfloat16 if rounding == "bf16" else self.dtype
                got, want = (torch.zeros(forms[there].size, dtype=dtype, device=self.device) for _ in range(2))
                ends = forms[here].to(self.device), forms[there].to(self.device)
                told = {**kept, "rounding": rounding, "widths": None if widths is None else widths.to(self.device)}
                gathering.move(values, ends[0], got, ends[1], self.counts, self.model, **told)
                gathering_defined.move(values, forms[here], want, forms[there], self.counts, self.layout, **told)
                narrow = "" if widths is None else ", narrow"
                yield f"move {here} to {there}, {rounding}{narrow}", got, want

    def updated(self) -> Iterator[Outcome]:
        shape = self.clients, self.layout.parameters
        compact = places.compact(self.layout, self.case.counts, self.case.capacity)
        packed = places.packed(self.layout, self.case.counts)
        lr = torch.full((1,), 0.25, dtype=self.dtype, device=self.device)
        room = updating.ClipRoom.of(self.clients, self.model)
        for clip, momentum in ((0.0, 0.0), (0.75, 0.5), (1e6, 0.0)):
            gradient, exact_gradient = self.draw(self.clients, self.case.capacity)
            together = torch.zeros(packed.size, dtype=self.dtype, device=self.device)
            gathering_defined.move(gradient, compact, together, packed, self.counts, self.layout)
            weights, exact = self.draw(*shape)
            velocity, exact_velocity = self.draw(*shape)
            anchor, exact_anchor = self.draw(self.layout.parameters)
            numbers = {"weight_decay": 0.125, "clip": clip, "momentum": momentum}
            rest = self.kept, self.counts, self.model
            for name, given, where in (("compact", gradient, compact), ("packed", together, packed)):
                own, moving = weights.clone(), velocity.clone() if momentum else None
                lost = torch.zeros(self.clients, dtype=torch.int32, device=self.device)
                extra = {"velocity": moving, "room": room, "lost": lost}
                updating.scatter_update(
                    own, given, where.to(self.device), [(0.5, anchor)], *rest, lr=lr, **numbers, **extra
                )
                want, carried = exact.clone(), exact_velocity.clone() if momentum else None
                arguments = exact_gradient, exact_anchor, self.case.kept, self.case.counts, self.layout
                updating_defined.scatter_update(want, *arguments, lr=0.25, pull=0.5, **numbers, velocity=carried)
                yield f"scatter_update {name}, clip {clip}", own, want
                yield "scatter_update: lost", lost, torch.zeros(self.clients, dtype=torch.int32)
                if momentum:
                    yield "scatter_update: velocity", moving, carried

    def narrowed(self) -> Iterator[Outcome]:
        """Only what one or two submodels of leading units have steps, and counts for the clip."""
        shape = self.clients, self.layout.parameters
        packed, whole = places.packed(self.layout, self.case.counts), places.dense(self.layout, self.clients)
        lr = torch.full((1,), 0.25, dtype=self.dtype, device=self.device)
        for widths in (self.widths[:1], self.widths):
            (weights, exact), (velocity, v), (dense, g) = (self.draw(*shape) for _ in range(3))
            anchor, a = self.draw(self.layout.parameters)
            gradient = torch.zeros(packed.size, dtype=self.dtype, device=self.device)
            gathering_defined.move(dense, whole, gradient, packed, self.counts, self.layout, taken=self.kept)
            told = {"velocity": velocity, "room": updating.ClipRoom.of(self.clients, self.model)}
            updating.scatter_update(
                *(weights, gradient, packed.to(self.device), [(0.5, anchor)], self.kept, self.counts, self.model),
                **{"lr": lr, "weight_decay": 0.125, "clip": 0.75, "momentum": 0.5, **told},
                widths=widths.to(self.device),
            )
            taken = torch.stack([self.case.mask(one) for one in widths]).any(dim=0)
            q = (g + 0.5 * (exact - a)).where(taken, 0)
            q = q * (0.75 / (q.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1)
            q = 0.5 * v + q + 0.125 * exact
            yield f"scatter_update, {len(widths)} widths", weights, torch.where(taken, exact - 0.25 * q, exact)
            yield "scatter_update, widths: velocity", velocity, torch.where(taken, q, v)

    def resummed(self) -> Iterator[Outcome]:
        """Two pulls, one of each client's own; the sums of kept units are those of the weights as written."""
        weights, exact = self.draw(self.clients, self.layout.parameters)
        own, exact_own = self.draw(self.clients, self.layout.parameters)
        anchor, exact_anchor = self.draw(self.layout.parameters)
        packed = places.packed(self.layout, self.case.counts)
        gradient = torch.zeros(packed.size, dtype=self.dtype, device=self.device)
        lr = torch.full((1,), 0.25, dtype=self.dtype, device=self.device)
        units = self.clients, self.layout.units
        ranks, dropped, got = self.empty(*units, dtype=torch.int32), self.empty(*units), self.empty(*units)
        updating.rank_units(self.kept, self.counts, self.model, ranks)
        updating.dropped_sums(weights, self.kept, self.counts, ranks, self.model, dropped)
        arguments = self.kept, self.counts, self.model
        pulls = [(0.5, anchor), (-0.25, own)]
        updating.scatter_update(
            weights, gradient, packed.to(self.device), pulls, *arguments, lr=lr, dropped=dropped, sums=got
        )
        stepped = exact - 0.25 * (0.5 * (exact - exact_anchor) - 0.25 * (exact - exact_own))
        want = torch.where(self.case.mask(), stepped, exact)
        yield "scatter_update, two pulls", weights, want
        kept = ranks.cpu() >= 0
        yield "kept units", kept, self.kept_units()
        wanted = torch.where(kept, sums_defined.unit_abs_sum(want, self.layout), torch.nan)
        yield "scatter_update: sums", got, wanted

    def gated(self) -> Iterator[Outcome]:
        weights, exact = self.draw(self.clients, self.layout.parameters)
        packed = places.packed(self.layout, self.case.counts)
        dense, exact_dense = self.draw(self.clients, self.layout.parameters)
        gradient, got = self.empty(packed.size), self.empty(self.clients, self.layout.units)
        whole = places.dense(self.layout, self.clients)
        gathering_defined.move(dense, whole, gradient, packed, self.counts, self.layout, taken=self.kept)
        given = packed.to(self.device), self.kept, self.counts, self.model
        updating.gate_gradients(weights, gradient, *given, got)
        want = torch.zeros(self.clients, self.layout.units, dtype=torch.float64)
        products = (exact * exact_dense).where(self.case.mask(), 0)
        for row_group, _, rows, columns, inner, weight, bias, scale, shift in self.layout.table.tolist():
            if row_group < 0:
                continue
            own = [products[:, at : at + rows] for at in ((bias,) if scale < 0 else ()) + (scale, shift) if at >= 0]
            if scale < 0:
                flat = products[:, weight : weight + rows * columns * inner]
                own.append(flat.view(self.clients, rows, columns * inner).sum(dim=2))
            first = int(self.layout.groups[row_group])
            for each in own:
                want[:, first : first + rows] += each
        yield "gate_gradients", got, want

    def kept_units(self) -> torch.Tensor:
        """(C, U): whether a client keeps a unit."""
        found = torch.zeros(self.clients, self.layout.units, dtype=torch.bool)
        for client, numbers in enumerate(self.case.counts.tolist()):
            for group, count in enumerate(numbers):
                first = int(self.layout.groups[group])
                found[client, first + self.case.kept[client, first : first + count].long()] = True
        return found

    def aggregated(self) -> Iterator[Outcome]:
        weights, exact = self.draw(self.layout.parameters)
        residuals, exact_residuals = self.draw(self.clients, self.case.capacity)
        shares = self.case.values(self.clients).abs()
        shares[::3] = 0
        own = places.compact(self.layout, self.case.counts, self.case.capacity).to(self.device)
        for rule in ("sum", "holders"):
            got = self.empty(*weights.shape)
            given = self.kept, self.counts, shares.to(self.device), self.model, got
            aggregation.scatter_aggregate(weights, residuals, own, *given, rule=rule)
            arguments = exact_residuals, self.case.kept, self.case.counts, shares, self.layout
            yield f"scatter_aggregate {rule}", got, aggregation_defined.scatter_aggregate(exact, *arguments, rule)


def several_turns() -> Case:
    """Kernels of 5 x 5, which a warp takes in three turns, before and behind a layer of 3; a norm; an output layer."""
    table = [[0, -1, 5, 2, 25, 0, -1, 250, 255], [1, 0, 4, 5, 3, 260, 320, -1, -1], [-1, 1, 3, 4, 25, 324, 624, -1, -1]]
    layout = Layout(torch.tensor(table), torch.tensor([0, 5, 9]), 627)
    return cohort(layout, 1, torch.Generator().manual_seed(1))


def wide_case(clients: int = 2) -> Case:
    """More of everything than one block, warp, tile or stage takes: rows, columns, places of inner, units."""
    table = [
        [0, -1, 37, 3, 25, 0, 37 * 75, -1, -1],
        [1, 0, 19, 37, 9, 37 * 76, -1, 9139, 9158],
        [-1, 1, 3, 19, 20, 9177, 10317, -1, -1],
    ]
    layout = Layout(torch.tensor(table), torch.tensor([0, 37, 56]), 10320)
    return cohort(layout, clients, torch.Generator().manual_seed(3))


def use(module: ModuleType) -> None:
    """The stand-in serves from now on."""
    native.gpu = lambda: module


def main(path: str, *barriers: str) -> None:
    """In two orders as it is, then without each of these barriers; a heading for each on the standard error."""
    from tests.fibers.build import load

    torch.set_num_threads(1)
    module = load(Path(path))
    use(module)
    for order, barrier in (("forward", ""), ("random", ""), *(("forward", barrier) for barrier in barriers)):
        print(f"== {barrier or order}", file=sys.stderr, flush=True)
        file, _, line = barrier.rpartition(":")
        module.skip_barrier(file, int(line or 0))
        module.set_order(order, False, 1)
        for _ in everything(several_turns(), torch.float32):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
