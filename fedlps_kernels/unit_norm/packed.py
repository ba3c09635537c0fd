"""The op on dense tensors by way of Triton's kernels: packs them, launches, unpacks. float32."""

from typing import Any

import torch

from fedlps_kernels.arena import Arena
from fedlps_kernels.layout import Layout
from fedlps_kernels.packing.triton import empty_arena, pack, to_arena, to_dense
from fedlps_kernels.places import packed as packed_places
from fedlps_kernels.tiles import Tiles
from fedlps_kernels.tuning import Precision
from fedlps_kernels.unit_norm import triton
from fedlps_kernels.unit_norm.triton import Norm

EXACT: Precision = "fp32"


def unit_norm(
    inputs: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, samples: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    """As the definition."""
    given, norm, _, positions, _ = _prepared(inputs, scale, shift, samples, rows)
    outputs = empty_arena(inputs.shape, rows, EXACT)
    triton.forward(given, samples, outputs, positions, norm=norm, relu=False, pool=None, precision=EXACT)
    return to_dense(outputs, samples, inputs.shape)


def gradient(
    inputs: torch.Tensor, gradient: torch.Tensor, scale: torch.Tensor, samples: torch.Tensor, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As the definition."""
    given, norm, sums, positions, workspace = _prepared(inputs, scale, torch.zeros_like(scale), samples, rows)
    behind, result = to_arena(gradient, samples, rows, EXACT), empty_arena(inputs.shape, rows, EXACT)
    vectors = torch.zeros_like(norm.vectors)
    more: dict[str, Any] = {"sums": vectors, "sum_tiles": sums, "workspace": workspace}
    triton.backward(
        given, behind, samples, result, positions, norm=norm, relu=False, pool=None, precision=EXACT, **more
    )
    found = to_dense(result, samples, inputs.shape), torch.empty_like(scale), torch.empty_like(scale)
    for number, vector in enumerate(found[1:], start=1):
        offsets = norm.places.vectors[:, 0, number].contiguous()
        pack(vector[:, None], vectors, offsets, torch.ones_like(rows), rows, back=True)
    return found


def _prepared(
    inputs: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, samples: torch.Tensor, rows: torch.Tensor
) -> tuple[Arena, Norm, Tiles, Tiles, torch.Tensor]:
    """The inputs, their norm with its statistics, the lists for sums and positions, and a workspace."""
    clients, room, units = inputs.shape[:3]
    device = inputs.device
    given = to_arena(inputs, samples, rows, EXACT)
    table = [[0, -1, units, 1, 1, 0, -1, units, 2 * units]]
    layout = Layout(torch.tensor(table), torch.tensor([0, units]), 3 * units)
    places = packed_places(layout, rows.cpu()[:, None]).to(device)
    vectors = inputs.new_zeros(places.size)
    for number, vector in ((1, scale), (2, shift)):
        pack(vector[:, None], vectors, places.vectors[:, 0, number].contiguous(), torch.ones_like(rows), rows)
    widest = -(-units // 16) * 16
    norm = Norm(inputs.new_zeros(clients, widest), inputs.new_zeros(clients, widest), vectors, places, 0)
    sums, positions = (
        triton.tiles_of("sums", rows.cpu(), units, room, given.positions).to(device),
        triton.tiles_of("positions", rows.cpu(), units, room, given.positions).to(device),
    )
    workspace = inputs.new_empty(triton.partial_size(sums))
    triton.statistics(given, samples, norm, sums, workspace)
    return given, norm, sums, positions, workspace
