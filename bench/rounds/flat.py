"""What a careful PyTorch user shares between the loops: parameters that are views of one vector, and the selection.

One vector for all parameters and one for their gradients make the update a handful of calls instead of some per layer.
"""

from itertools import pairwise

import torch
from torch import nn

from fedlps.cost import kept_columns, kept_rows
from fedlps.program import Program


def bind(module: nn.Module, program: Program, counts: tuple[int, ...], flat: torch.Tensor) -> torch.Tensor:
    """Makes the module's parameters views of a (compact) vector: (n,), of so many kept units per group.

    Returns their gradient, (n,), which `backward` adds to in place.
    """
    gradient = torch.zeros_like(flat)
    reached = 0
    for layer in program.layers:
        owner = module.get_submodule(layer.name)
        rows, columns = kept_rows(layer, counts), kept_columns(layer, counts)
        kernel = tuple(owner.weight.shape[2:])
        for name, shape in (("weight", (rows, columns * layer.spread, *kernel)), ("bias", (rows,))):
            size = torch.Size(shape).numel()
            parameter = nn.Parameter(flat[reached : reached + size].view(shape))
            parameter.grad = gradient[reached : reached + size].view(shape)
            setattr(owner, name, parameter)
            reached += size
    return gradient


def smallest(redundancy: torch.Tensor, counts: tuple[int, ...], edges: list[int]) -> torch.Tensor:
    """The units of the smallest redundancies, group by group, ascending: (sum of counts,) numbers among all U."""
    return torch.cat(
        [
            torch.arange(first, last)
            if count == last - first
            else redundancy[first:last].topk(count, largest=False).indices.sort().values + first
            for count, (first, last) in zip(counts, pairwise(edges), strict=True)
        ]
    )


def padded(kept: torch.Tensor, counts: tuple[int, ...], edges: list[int]) -> torch.Tensor:
    """The same units as layouts want them: (U,), numbers within their group, -1 past a group's count."""
    rows = torch.full((edges[-1],), -1)
    for own, count, first in zip(kept.split(list(counts)), counts, edges, strict=False):
        rows[first : first + count] = own - first
    return rows


def rates(program: Program, lr: float, strength: float, dtype: torch.dtype) -> torch.Tensor:
    """How far a step moves each redundancy towards its target: (U,), lr * 2 lambda / units of the group."""
    each = [torch.full((group.units,), lr * 2 * strength / group.units, dtype=dtype) for group in program.groups]
    return torch.cat(each)
