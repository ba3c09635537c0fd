"""The unit absolute sum, in plain torch."""

import torch

from fedlps_kernels.layout import COLUMNS, INNER, ROW_GROUP, ROWS, WEIGHT, Layout


def unit_abs_sum(parameters: torch.Tensor, layout: Layout) -> torch.Tensor:
    """a(w) of spec section 3. parameters: (C, P) floats. Returns (C, U), the same dtype."""
    sums = parameters.new_zeros(len(parameters), layout.units)
    edges = layout.groups.tolist()
    for layer in layout.table.tolist():
        if layer[ROW_GROUP] < 0:
            continue
        units = slice(edges[layer[ROW_GROUP]], edges[layer[ROW_GROUP] + 1])
        sums[:, units] += _rows(parameters, layer).abs().sum(dim=2)
    return sums


def unit_abs_sum_gradient(gradient: torch.Tensor, parameters: torch.Tensor, layout: Layout) -> torch.Tensor:
    """What (C, U) gradients of the sums are to the (C, P) parameters: each entry's sign times its unit's."""
    result = torch.zeros_like(parameters)
    edges = layout.groups.tolist()
    for layer in layout.table.tolist():
        if layer[ROW_GROUP] < 0:
            continue
        units = slice(edges[layer[ROW_GROUP]], edges[layer[ROW_GROUP] + 1])
        _rows(result, layer).copy_(_rows(parameters, layer).sign() * gradient[:, units, None])
    return result


def _rows(vectors: torch.Tensor, layer: list[int]) -> torch.Tensor:
    """A view of one layer's weight: (C, rows, columns * inner)."""
    width = layer[COLUMNS] * layer[INNER]
    weight = vectors[:, layer[WEIGHT] : layer[WEIGHT] + layer[ROWS] * width]
    return weight.view(len(vectors), layer[ROWS], width)
