"""Layouts of real rounds, and a cohort's submodels on them."""

from dataclasses import dataclass
from itertools import pairwise

import torch

from fedlps_kernels import Layout, select_units


@dataclass(frozen=True)
class Cohort:
    layout: Layout
    kept: torch.Tensor
    counts: torch.Tensor
    capacity: int
    generator: torch.Generator

    def values(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)


def chain(layers: list[tuple[int, int, int]]) -> Layout:
    """Layers of (rows, columns, inner) with biases, each one's columns the units of the layer before."""
    table, reached = [], 0
    for index, (rows, columns, inner) in enumerate(layers):
        group = index if index < len(layers) - 1 else -1
        bias = reached + rows * columns * inner
        table.append([group, index - 1, rows, columns, inner, reached, bias, -1, -1])
        reached = bias + rows
    edges = torch.tensor([0, *(rows for rows, _, _ in layers[:-1])]).cumsum(0)
    return Layout(torch.tensor(table), edges, reached)


def mnist_cnn() -> Layout:
    """21,840 parameters; 80 units."""
    return chain([(10, 1, 25), (20, 10, 25), (50, 20, 16), (10, 50, 1)])


def wide_cnn() -> Layout:
    """About 2.4 million parameters; 960 units, as in the middle of vgg11."""
    return chain([(64, 3, 9), (128, 64, 9), (256, 128, 9), (512, 256, 9), (10, 512, 16)])


def vgg11() -> Layout:
    """The paper's network for CIFAR-10 without its norms: 9.2 million parameters; 2,752 units."""
    widths = (3, 64, 128, 256, 256, 512, 512, 512, 512)
    return chain([*((rows, columns, 9) for columns, rows in pairwise(widths)), (10, 512, 1)])


SHAPES = {"mnist_cnn, 10 clients": (mnist_cnn, 10), "wide_cnn, 4 clients": (wide_cnn, 4)}


def cohort(shape: str, ratio: float = 0.5) -> Cohort:
    """The shape's clients, each with this ratio of units, chosen at random."""
    layout, clients = SHAPES[shape][0](), SHAPES[shape][1]
    generator = torch.Generator().manual_seed(0)
    counts = (layout.groups.diff() * ratio).int().clamp(min=1).repeat(clients, 1)
    kept = select_units(torch.rand(clients, layout.units, generator=generator), counts, layout.groups)
    return Cohort(layout, kept, counts, int(layout.compact_sizes(counts).max()), generator)
