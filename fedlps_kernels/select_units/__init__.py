"""Per client and group, the units with the largest scores."""

import torch

from fedlps_kernels import checks, native
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.operator import operator
from fedlps_kernels.select_units import cuda, definition


def select_units(scores: torch.Tensor, counts: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """The counts[k, g] largest scores of each group, ties to the lower index (spec section 3; FedLPS scores by -d).

    scores: (C, U) float32 or float64, contiguous, without NaN; infinities are fine and -0.0 equals 0.0.
    counts: (C, G) int32, 0 <= count <= units of the group.
    groups: (G + 1,) int64 on the CPU; group g's units are groups[g] : groups[g + 1].
    Returns (C, U) int32: from groups[g] on the chosen units' indices within the group, ascending; -1 past the count.
    Raises TypeError for another dtype; ValueError for another shape, device or strides, a count out of range, a NaN.
    """
    kept: torch.Tensor = _select(scores, counts, groups)
    return kept


@operator("select_units", lambda scores, *_: torch.empty_like(scores, dtype=torch.int32))
def _select(scores: torch.Tensor, counts: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    checks.groups(groups)
    checks.tensor("scores", scores, {"C": None, "U": int(groups[-1])}, checks.FLOATS)
    checks.counts(counts, groups, len(scores), scores.device)
    checks.no_nan("scores", scores)
    kept = torch.empty_like(scores, dtype=torch.int32)
    if native.serves_gpu(scores):
        cuda.select_units(scores, counts, OnDevice.of_groups(groups, scores.device), kept)
        return kept
    module = native.serving(scores)
    if module is None:
        return definition.select_units(scores, counts, groups)
    module.select_units(*native.arrays(groups, scores, counts, kept), native.threads())
    return kept
