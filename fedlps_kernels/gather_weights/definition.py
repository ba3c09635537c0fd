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
) -> None:
    """What `fedlps_kernels.gather_weights.cuda.move` does, client by client and layer by layer."""
    for client, numbers in enumerate(counts.tolist()):
        for number, layer in enumerate(layout.table.tolist()):
            groups = layer[ROW_GROUP], layer[COLUMN_GROUP]
            sizes = [
                numbers[group] if group >= 0 else all_of
                for group, all_of in zip(groups, (layer[ROWS], layer[COLUMNS]), strict=True)
            ]
            entries = []
            for found, kept in ((source_places, taken), (target_places, placed)):
                rows, columns = (
                    torch.arange(size)
                    if kept is None or group < 0
                    else kept[client, int(layout.groups[group]) :][:size].to("cpu", torch.int64)
                    for group, size in zip(groups, sizes, strict=True)
                )
                entries.append(_entries(found, client, number, rows, columns, layer[INNER]).to(source.device))
            target.view(-1)[entries[1]] = rounded(source.view(-1)[entries[0]], rounding)


def rounded(values: torch.Tensor, rounding: str) -> torch.Tensor:
    """`tf32`: float32 to 10 bits behind the point, ties away from zero. `bf16`: bfloat16, ties to even. Or `none`."""
    if rounding == "bf16":
        return values.to(torch.bfloat16)
    if rounding == "none" or values.dtype != torch.float32:
        return values
    bits = values.view(torch.int32)
    return torch.where(values.isfinite(), ((bits + 0x1000) & ~0x1FFF).view(torch.float32), values)


def _entries(
    found: Places, client: int, layer: int, rows: torch.Tensor, columns: torch.Tensor, inner: int
) -> torch.Tensor:
    """Positions of one layer's entries: rows x columns x inner, then each vector's."""
    weight, row, column, place = (
        int(each[client, layer]) for each in (found.weight, found.row, found.column, found.inner)
    )
    at = weight + rows[:, None, None] * row + columns[:, None] * column + torch.arange(inner) * place
    vectors = [int(first) + rows for first in found.vectors[client, layer] if first >= 0]
    return torch.cat([at.flatten(), *vectors])
