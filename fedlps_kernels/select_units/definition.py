"""Selecting the units with the largest scores, in plain torch."""

from itertools import pairwise

import torch


def select_units(scores: torch.Tensor, counts: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """scores: (C, U) without NaN; counts: (C, G); groups: (G + 1,). Returns (C, U) int32, -1 past a group's count."""
    kept = torch.full(scores.shape, -1, dtype=torch.int32, device=scores.device)
    edges = groups.tolist()
    for client, numbers in enumerate(counts.tolist()):
        for count, (first, last) in zip(numbers, pairwise(edges), strict=True):
            # stable: among equal scores the lower index stays in front
            order = torch.sort(scores[client, first:last], descending=True, stable=True).indices
            kept[client, first : first + count] = order[:count].sort().values.to(torch.int32)
    return kept
