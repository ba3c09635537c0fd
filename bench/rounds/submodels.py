"""Submodels to evaluate: random units of the received parameters, gathered, and at full width for the gated loop."""

from collections.abc import Sequence
from itertools import pairwise

import torch

from bench.rounds.case import Case
from fedlps.engine.result import Submodels
from fedlps_kernels import gather_weights, select_units


def drawn(case: Case, ratios: Sequence[float]) -> Submodels:
    """One submodel per ratio: units drawn at random, parameters those received under a little noise of its own."""
    generator = torch.Generator().manual_seed(2)
    counts = torch.tensor([case.program.counts(ratio) for ratio in ratios], dtype=torch.int32)
    kept = select_units(torch.rand(len(ratios), case.program.units, generator=generator), counts, case.layout.groups)
    noise = torch.randn(len(ratios), case.program.size, generator=generator).to(case.parameters.dtype)
    full = case.parameters + 0.01 * noise
    capacity = int(case.layout.compact_sizes(counts).max())
    return Submodels(kept, counts, gather_weights(full, kept, counts, case.layout, capacity))


def widened(case: Case, models: Submodels) -> tuple[torch.Tensor, torch.Tensor]:
    """The same models at full width, zero outside, (M, P), and the 0/1 gates of their units, (M, U)."""
    parameters = case.parameters.new_zeros(len(models), case.program.size)
    gates = case.parameters.new_zeros(len(models), case.program.units)
    edges = case.layout.groups.tolist()
    for row, (kept, counts) in enumerate(zip(models.kept, models.counts, strict=True)):
        entries = case.layout.entries(kept, counts)
        parameters[row, entries] = models.parameters[row, : len(entries)]
        for first, last in pairwise(edges):
            own = kept[first:last]
            gates[row, first + own[own >= 0].long()] = 1
    return parameters, gates
