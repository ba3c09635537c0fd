"""Pure functions for the end of a segment, (weights, mask, gradient) -> weights and mask."""

import torch


def halve(weights, mask, gradient):
    """Smaller weights, the same mask."""
    return 0.5 * weights, mask


def prune(weights, mask, gradient):
    """A quarter of the held entries goes, the smallest first."""
    left = mask.clone()
    left[_first(abs(weights), mask, int(mask.sum()) // 4)] = False
    return torch.where(left, weights, 0), left


def swap(weights, mask, gradient):
    """Pruned; what has the largest gradient comes in its place, from 0."""
    kept, left = prune(weights, mask, gradient)
    grown = left.clone()
    grown[_first(-abs(gradient), ~mask, int(mask.sum()) // 4)] = True
    return kept, grown


def _first(scores: torch.Tensor, among: torch.Tensor, count: int) -> torch.Tensor:
    """The positions of the smallest scores, ties to the lower."""
    places = among.nonzero()[:, 0]
    return places[torch.sort(scores[places], stable=True).indices[:count]]
