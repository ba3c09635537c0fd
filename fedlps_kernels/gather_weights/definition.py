"""Gathering a submodel's entries and putting them back, in plain torch."""

import torch

from fedlps_kernels.layout import Layout


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
