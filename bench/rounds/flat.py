"""What a careful PyTorch user shares between the loops: parameters that are views of one vector, and the selection.

One vector for all parameters and one for their gradients make the update a handful of calls instead of some per layer.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import nn

from fedlps.cost import kept_columns, kept_rows
from fedlps.program import Program


def bind(
    module: nn.Module,
    program: Program,
    counts: tuple[int, ...],
    flat: torch.Tensor,
    gradient: torch.Tensor,
    layout: torch.memory_format = torch.contiguous_format,
) -> None:
    """Makes the module's parameters views of a (compact) vector, (n,), of so many kept units per group.

    gradient: (n,), which `backward` adds to in place. layout: of the convolutions' weights within both.
    """
    reached = 0
    for owner, name, shape in _tensors(module, program, counts):
        size = shape.numel()
        parameter = nn.Parameter(_shaped(flat[reached : reached + size], shape, layout))
        parameter.grad = _shaped(gradient[reached : reached + size], shape, layout)
        setattr(owner, name, parameter)
        reached += size


def arranged(
    entries: torch.Tensor, module: nn.Module, program: Program, counts: tuple[int, ...], layout: torch.memory_format
) -> torch.Tensor:
    """A submodel's entries, (n,) in compact order, in the order in which `bind` takes its vector."""
    if layout == torch.contiguous_format:
        return entries
    shapes = [shape for _, _, shape in _tensors(module, program, counts)]
    pieces = zip(entries.split([shape.numel() for shape in shapes]), shapes, strict=True)
    return torch.cat(
        [piece.view(shape).permute(0, 2, 3, 1).flatten() if len(shape) == 4 else piece for piece, shape in pieces]
    )


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


def _tensors(
    module: nn.Module, program: Program, counts: tuple[int, ...]
) -> Iterator[tuple[nn.Module, str, torch.Size]]:
    """Of every parameter of a submodel, in compact order: its module, its name there, and its shape."""
    for layer in program.layers:
        owner, rows = module.get_submodule(layer.name), kept_rows(layer, counts)
        kernel = owner.weight.shape[2:]
        yield owner, "weight", torch.Size((rows, kept_columns(layer, counts) * layer.spread, *kernel))
        if layer.bias is not None:
            yield owner, "bias", torch.Size((rows,))
        if layer.scale is not None:
            norm = module.get_submodule(layer.gate)
            yield norm, "weight", torch.Size((rows,))
            yield norm, "bias", torch.Size((rows,))


def _shaped(piece: torch.Tensor, shape: torch.Size, layout: torch.memory_format) -> torch.Tensor:
    """A view of a piece of a vector; a convolution's weight lies in the layout."""
    if len(shape) != 4 or layout == torch.contiguous_format:
        return piece.view(shape)
    rows, columns, height, width = shape
    return piece.view(rows, height, width, columns).permute(0, 3, 1, 2)
