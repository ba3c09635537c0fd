"""Kernels over masters and selections, in plain torch."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch

from fedlps.engine.cuda.definitions.entries import positions, selection, vectors, weight
from fedlps.engine.cuda.definitions.rounding import rounded
from fedlps.engine.cuda.launches import Learning, Packed, Precision, Pull, Rates
from fedlps_kernels.importance_step.definition import importance_step
from fedlps_kernels.layout import COLUMN_GROUP, COLUMNS, INNER, ROW_GROUP, ROWS, WEIGHT, Layout
from fedlps_kernels.select_units.definition import select_units
from fedlps_kernels.unit_abs_sum.definition import unit_abs_sum


class DefinedWeights:
    """`launches.Weights`; what each method computes is said there."""

    def __init__(self, layout: Layout, precision: Precision) -> None:
        self.layout, self.precision = layout, precision

    def unit_abs_sum(self, masters: torch.Tensor, sums: torch.Tensor) -> None:
        """All of a(w)."""
        for own, found in zip(masters, sums, strict=True):
            found.copy_(unit_abs_sum(own[None], self.layout)[0])

    def dropped_sums(self, masters: torch.Tensor, kept: torch.Tensor, counts: torch.Tensor, learning: Learning) -> None:
        """Of kept rows, the columns that are not kept."""
        for client in learning.changed.any(dim=1).nonzero()[:, 0].tolist():
            for units, rows, columns in self._kept_rows(masters, kept, client):
                outside = torch.ones(rows.shape[1], dtype=torch.bool, device=rows.device)
                outside[columns] = False
                learning.dropped[client, units] = rows[:, outside].abs().sum(dim=(1, 2))

    def select_units(self, learning: Learning, counts: torch.Tensor, alive: torch.Tensor, kept: torch.Tensor) -> None:
        """The smallest redundancies."""
        learning.changed.zero_()
        for client in alive.nonzero()[:, 0].tolist():
            now = select_units(-learning.redundancy[client, None], counts[client, None], self.layout.groups)[0]
            for group, (first, last) in enumerate(pairwise(self.layout.groups.tolist())):
                learning.changed[client, group] = not torch.equal(now[first:last], kept[client, first:last])
            kept[client] = now

    def move(
        self,
        source: Packed,
        target: Packed,
        kept: torch.Tensor | None,
        counts: torch.Tensor,
        *,
        rounds: bool,
        widths: torch.Tensor | None = None,
    ) -> None:
        """Layer by layer."""
        precision = self.precision if rounds else "fp32"
        for client in range(len(target.places.weight)):
            for layer in range(len(self.layout.table)):
                rows, columns = (None, None) if kept is None else selection(self.layout, kept[client], layer)
                given = weight(source.data, source.places, self.layout, layer, client)
                given = given if rows is None else given[rows]
                given = given if columns is None else given[:, columns]
                taken = weight(target.data, target.places, self.layout, layer, client)
                height, width = taken.shape[:2] if widths is None else self._leading(layer, widths[client])
                taken.zero_()[:height, :width] = rounded(given[:height, :width], precision)
                pairs = (vectors(one.data, one.places, layer, client) for one in (source, target))
                for vector, to in zip(*pairs, strict=True):
                    if vector is not None and to is not None:
                        to.zero_()[:height] = (vector if rows is None else vector[rows])[:height]

    def gate_gradient(
        self,
        masters: torch.Tensor,
        gradient: Packed,
        kept: torch.Tensor,
        counts: torch.Tensor,
        gates: torch.Tensor,
    ) -> None:
        """Client after client."""
        gates.zero_()
        for client, t in enumerate(gates):
            self._gate_gradient(masters, gradient, kept, client, t)

    def importance_step(self, learning: Learning, rates: Rates, samples: torch.Tensor, broken: torch.Tensor) -> None:
        """Section 4, step 2."""
        t = torch.zeros_like(learning.sums) if learning.gates is None else learning.gates
        for client in samples.nonzero()[:, 0].tolist():  # of one alone, so that torch rounds alike in any company
            d, a, own = (one[client, None] for one in (learning.redundancy, learning.sums, t))
            stepped = importance_step(
                *(d, a, own, self.layout.groups),
                lr=float(rates.lr),
                lam=learning.strength,
                kappa=learning.kappa,
                reduction=learning.reduction,
            )
            learning.redundancy[client] = stepped[0]
            broken[client] |= not bool(stepped.isfinite().all())

    def scatter_update(
        self,
        masters: torch.Tensor,
        gradient: Packed,
        kept: torch.Tensor,
        counts: torch.Tensor,
        pulls: Sequence[Pull],
        rates: Rates,
        velocity: torch.Tensor | None,
        learning: Learning | None,
        samples: torch.Tensor,
        broken: torch.Tensor,
        widths: torch.Tensor | None = None,
    ) -> None:
        """Section 4, step 3."""
        for client in samples.nonzero()[:, 0].tolist():
            entries = self.layout.entries(kept[client], counts[client]).to(masters.device)
            at = positions(gradient.places, self.layout, client)
            if widths is not None:
                taken = [self.layout.entries(kept[client], own) for own in widths[:, client]]
                inside = torch.isin(entries, torch.cat(taken).to(entries.device))
                entries, at = entries[inside], at[inside]
            w, q = masters[client, entries], gradient.data[at]
            for pull in pulls:
                reference = pull.reference if pull.reference.dim() == 1 else pull.reference[client]
                q = q + pull.coefficient * (w - reference[entries])
            if rates.clip > 0:
                q = q * (rates.clip / (torch.linalg.vector_norm(q) + 1e-6)).clamp(max=1)
            q = q + rates.weight_decay * w
            if velocity is not None:
                q = rates.momentum * velocity[client, entries] + q
                velocity[client, entries] = q
            w = w - rates.lr * q
            masters[client, entries] = w
            broken[client] |= not bool(w.isfinite().all())
            if learning is not None:
                for units, rows, columns in self._kept_rows(masters, kept, client):
                    inside = rows[:, columns].abs().sum(dim=(1, 2))
                    learning.sums[client, units] = learning.dropped[client, units] + inside

    def _leading(self, layer: int, widths: torch.Tensor) -> tuple[int, int]:
        """A layer's rows and columns in a submodel of so many units of each group. widths: (G,)."""
        fields = self.layout.table[layer].tolist()
        pairs = ((fields[ROW_GROUP], fields[ROWS]), (fields[COLUMN_GROUP], fields[COLUMNS]))
        rows, columns = (size if group < 0 else int(widths[group]) for group, size in pairs)
        return rows, columns

    def _kept_rows(
        self, masters: torch.Tensor, kept: torch.Tensor, client: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Of every thinned layer: the kept rows' places among the units, the rows, and their kept columns."""
        for layer, fields in enumerate(self.layout.table.tolist()):
            rows, columns = selection(self.layout, kept[client], layer)
            if rows is None:
                continue
            shape = (fields[ROWS], fields[COLUMNS], fields[INNER])
            first, size = fields[WEIGHT], torch.Size(shape).numel()
            values = masters[client, first : first + size].view(shape)[rows]
            every = torch.arange(shape[1], device=masters.device) if columns is None else columns
            yield int(self.layout.groups[fields[ROW_GROUP]]) + rows, values, every

    def _gate_gradient(
        self, masters: torch.Tensor, gradient: Packed, kept: torch.Tensor, client: int, t: torch.Tensor
    ) -> None:
        """Of kept units: the sum of w g over scale and shift, where there are; else over row and bias."""
        for layer, fields in enumerate(self.layout.table.tolist()):
            rows, columns = selection(self.layout, kept[client], layer)
            if rows is None:
                continue
            units = int(self.layout.groups[fields[ROW_GROUP]]) + rows
            given = vectors(gradient.data, gradient.places, layer, client)
            bias, scale, shift = (
                None if vector is None else vector * masters[client, offset + rows]
                for vector, offset in zip(given, fields[WEIGHT + 1 :], strict=True)
            )
            if scale is not None and shift is not None:
                t[units] = scale + shift
                continue
            g = weight(gradient.data, gradient.places, self.layout, layer, client)
            size = fields[ROWS] * fields[COLUMNS] * fields[INNER]
            w = masters[client, fields[WEIGHT] : fields[WEIGHT] + size].view(fields[ROWS], fields[COLUMNS], -1)[rows]
            t[units] = (g * (w if columns is None else w[:, columns])).sum(dim=(1, 2))
            if bias is not None:
                t[units] += bias
