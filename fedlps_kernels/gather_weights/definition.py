"""Gathering a submodel's entries and putting them back, in plain torch."""

import torch

from fedlps_kernels.layout import COLUMN_GROUP, COLUMNS, INNER, ROW_GROUP, ROWS, Layout
from fedlps_kernels.places import Places


def gather_weights(
    parameters: torch.Tensor, kept: torch.Tensor, counts: torch.Tensor, layout: Layout, capacity: int
) -> torch.Tensor:
    """parameters: (C, P), or (1, P) for all; kept: (C, U); counts: (C, G). Returns (C, capacity), zeros behind."""
    compact = parameters.new_zeros(len(kept), capacity)
    for client, (units, numbers) in enumerate(zip(kept, counts, strict=True)):
        source = parameters[0 if len(parameters) == 1 else client]
        entries = layout.entries(units, numbers).to(source.device)
        compact[client, : len(entries)] = source[entries]
    return compact


def scatter_weights(compact: torch.Tensor, kept: torch.Tensor, counts: torch.Tensor, layout: Layout) -> torch.Tensor:
    """The adjoint of `gather_weights`: (C, P), zeros where nothing is kept."""
    parameters = compact.new_zeros(len(kept), layout.parameters)
    for client, (units, numbers) in enumerate(zip(kept, counts, strict=True)):
        entries = layout.entries(units, numbers).to(compact.device)
        parameters[client, entries] = compact[client, : len(entries)]
    return parameters


def move(
    source: torch.Tensor,
    source_places: Places,
    target: torch.Tensor,
    target_places: Places,
    counts: torch.Tensor,
    layout: Layout,
    *,
    taken: torch.Tensor | None = None,
    placed: torch.Tensor | None = None,
    rounding: str = "none",
    widths: torch.Tensor | None = None,
) -> None:
    """What `fedlps_kernels.gather_weights.cuda.move` does, client by client and layer by layer."""
    sides = (source_places, taken), (target_places, placed)
    for client, numbers in enumerate(counts.tolist()):
        for number in range(len(layout.table)):
            here, there = (_entries(layout, side, client, number, numbers) for side in sides)
            if widths is not None:
                target.view(-1)[there.to(target.device)] = 0
                here, there = (_entries(layout, side, client, number, widths[client].tolist()) for side in sides)
            moved = source.view(-1)[here.to(source.device)]
            target.view(-1)[there.to(target.device)] = rounded(moved, rounding)


def rounded(values: torch.Tensor, rounding: str) -> torch.Tensor:
    """`tf32`: float32 to 10 bits behind the point, ties away from zero. `bf16`: bfloat16, ties to even. Or `none`."""
    if rounding == "bf16":
        return values.to(torch.bfloat16)
    if rounding == "none" or values.dtype != torch.float32:
        return values
    bits = values.view(torch.int32)
    return torch.where(values.isfinite(), ((bits + 0x1000) & ~0x1FFF).view(torch.float32), values)


def _entries(
    layout: Layout, side: tuple[Places, torch.Tensor | None], client: int, layer: int, numbers: list[int]
) -> torch.Tensor:
    """Positions of one layer's entries of so many units per group: rows x columns x inner, then each vector's."""
    (found, kept), fields = side, layout.table[layer].tolist()
    pairs = (fields[ROW_GROUP], fields[ROWS]), (fields[COLUMN_GROUP], fields[COLUMNS])
    rows, columns = (
        torch.arange(size if group < 0 else numbers[group])
        if kept is None or group < 0
        else kept[client, int(layout.groups[group]) :][: numbers[group]].to("cpu", torch.int64)
        for group, size in pairs
    )
    weight, row, column, place = (
        int(each[client, layer]) for each in (found.weight, found.row, found.column, found.inner)
    )
    at = weight + rows[:, None, None] * row + columns[:, None] * column + torch.arange(fields[INNER]) * place
    vectors = [int(first) + rows for first in found.vectors[client, layer] if first >= 0]
    return torch.cat([at.flatten(), *vectors])
