"""Drawn layouts and cohorts: one unit, odd sizes, shared groups, groups that no layer uses, unequal clients."""

from dataclasses import dataclass

import torch
from hypothesis import strategies

from fedlps_kernels import Layout
from fedlps_kernels.layout import FIELDS


@dataclass(frozen=True)
class Case:
    """A layout and a cohort's submodels. values(...) draws standard normal numbers."""

    layout: Layout
    kept: torch.Tensor
    counts: torch.Tensor
    generator: torch.Generator

    @property
    def clients(self) -> int:
        return len(self.kept)

    @property
    def capacity(self) -> int:
        """Two entries more than the largest submodel has."""
        return max(self.layout.compact_sizes(self.counts).tolist(), default=0) + 2

    def values(self, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(dtype)

    def widths(self, submodels: int) -> torch.Tensor:
        """(submodels, C, G) int32: any number of each client's kept units, none and all included."""
        drawn = torch.rand(submodels, *self.counts.shape, generator=self.generator)
        return (drawn * (self.counts + 1)).to(torch.int32)

    def mask(self, counts: torch.Tensor | None = None) -> torch.Tensor:
        """(C, P): which entries each client keeps. counts: of the leading ones of its units; none: of all."""
        mask = torch.zeros(self.clients, self.layout.parameters, dtype=torch.bool)
        for client in range(self.clients):
            own = (self.counts if counts is None else counts)[client]
            mask[client, self.layout.entries(self.kept[client], own)] = True
        return mask


@strategies.composite
def layouts(draw: strategies.DrawFn, largest: int = 9) -> Layout:
    sizes = draw(strategies.lists(strategies.integers(1, largest), max_size=3))
    size = strategies.integers(1, largest)
    group = strategies.integers(-1, len(sizes) - 1)
    rows, reached = [], 0
    for _ in range(draw(strategies.integers(1, 4))):
        row_group, column_group = draw(group), draw(group)
        height = sizes[row_group] if row_group >= 0 else draw(size)
        width = sizes[column_group] if column_group >= 0 else draw(size)
        inner = draw(strategies.sampled_from([1, 2, 9, 25]))
        layer = [row_group, column_group, height, width, inner, reached]
        reached += height * width * inner
        for present in draw(strategies.tuples(*[strategies.booleans()] * 3)):
            layer.append(reached if present else -1)
            reached += height if present else 0
        rows.append(layer)
    edges = torch.tensor([0, *sizes], dtype=torch.int64).cumsum(0)
    return Layout(torch.tensor(rows, dtype=torch.int64).reshape(-1, FIELDS), edges, reached)


@strategies.composite
def cases(draw: strategies.DrawFn, most_clients: int = 4) -> Case:
    layout = draw(layouts())
    generator = torch.Generator().manual_seed(draw(strategies.integers(0, 2**32)))
    clients = draw(strategies.integers(0, most_clients))
    return cohort(layout, clients, generator)


def cohort(layout: Layout, clients: int, generator: torch.Generator) -> Case:
    """Each client keeps any number of each group's units, none and all included."""
    sizes = layout.groups.diff().tolist()
    counts = torch.zeros(clients, len(sizes), dtype=torch.int32)
    kept = torch.full((clients, layout.units), -1, dtype=torch.int32)
    for client in range(clients):
        for group, size in enumerate(sizes):
            count = int(torch.randint(size + 1, (), generator=generator))
            first = int(layout.groups[group])
            counts[client, group] = count
            chosen = torch.randperm(size, generator=generator)[:count].sort().values
            kept[client, first : first + count] = chosen.to(torch.int32)
    return Case(layout, kept, counts, generator)


def small_case(clients: int = 3, seed: int = 0) -> Case:
    """A convolution with bias and norm, a linear layer behind a flatten, an output layer: groups of 5 and 4 units."""
    table = [[0, -1, 5, 2, 9, 0, 90, 95, 100], [1, 0, 4, 5, 3, 105, 165, -1, -1], [-1, 1, 3, 4, 1, 169, 181, -1, -1]]
    layout = Layout(torch.tensor(table), torch.tensor([0, 5, 9]), 184)
    return cohort(layout, clients, torch.Generator().manual_seed(seed))


def large_case(clients: int = 4, seed: int = 0) -> Case:
    """Enough entries that a call takes several threads."""
    table = [[0, -1, 300, 9, 25, 0, 67500, -1, -1], [1, 0, 101, 300, 3, 67800, 158700, -1, -1]]
    layout = Layout(torch.tensor(table), torch.tensor([0, 300, 401]), 158801)
    return cohort(layout, clients, torch.Generator().manual_seed(seed))
