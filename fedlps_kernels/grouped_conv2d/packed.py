"""The ops on dense tensors by way of Triton's kernels: packs them, launches, unpacks. float32, exact products."""

from typing import Any

import torch

from fedlps_kernels.arena import Arena
from fedlps_kernels.grouped_conv2d import triton
from fedlps_kernels.launching import architecture
from fedlps_kernels.layout import Layout
from fedlps_kernels.packing.triton import empty_arena, pack, to_arena, to_dense
from fedlps_kernels.places import PAD
from fedlps_kernels.places import packed as packed_places
from fedlps_kernels.places import transposed as transposed_places
from fedlps_kernels.tiles import Tiles
from fedlps_kernels.tuning import Precision, Product

EXACT: Precision = "fp32"


def grouped_conv2d(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    bias: torch.Tensor | None,
    samples: torch.Tensor,
    columns: torch.Tensor,
    rows: torch.Tensor,
    *,
    stride: int,
    padding: int,
    shape: torch.Size,
) -> torch.Tensor:
    """As the definition. shape: of the outputs."""
    given, outputs = to_arena(inputs, samples, columns, EXACT), empty_arena(shape, rows, EXACT)
    places = packed_places(_layout(weights, bias is not None), _counts(columns, rows)).to(inputs.device)
    held = inputs.new_zeros(places.size + PAD)
    pack(weights, held, places.weight[:, 0].contiguous(), rows, columns)
    if bias is not None:
        pack(bias[:, None], held, places.vectors[:, 0, 0].contiguous(), torch.ones_like(rows), rows)
    tiles = _tiles("forward", weights, columns, rows, outputs)
    window: dict[str, Any] = {"kernel": weights.shape[4], "stride": stride, "padding": padding}
    triton.forward(given, held, places, 0, samples, outputs, tiles, **window, precision=EXACT)
    return to_dense(outputs, samples, shape)


def input_gradient(
    gradient: torch.Tensor,
    weights: torch.Tensor,
    samples: torch.Tensor,
    columns: torch.Tensor,
    rows: torch.Tensor,
    *,
    height: int,
    width: int,
    stride: int,
    padding: int,
) -> torch.Tensor:
    """As the definition."""
    shape = torch.Size((*gradient.shape[:2], weights.shape[2], height, width))
    given, inputs = to_arena(gradient, samples, rows, EXACT), empty_arena(shape, columns, EXACT)
    places = transposed_places(_layout(weights, False), _counts(columns, rows)).to(weights.device)
    held = weights.new_zeros(places.size + PAD)
    pack(weights.transpose(1, 2).contiguous(), held, places.weight[:, 0].contiguous(), columns, rows)
    tiles = _tiles("input_gradient", weights, columns, rows, inputs)
    window: dict[str, Any] = {"kernel": weights.shape[4], "stride": stride, "padding": padding}
    triton.input_gradient(given, held, places, 0, samples, inputs, tiles, **window, precision=EXACT, transposed=True)
    return to_dense(inputs, samples, shape)


def weight_gradient(
    inputs: torch.Tensor,
    gradient: torch.Tensor,
    samples: torch.Tensor,
    columns: torch.Tensor,
    rows: torch.Tensor,
    *,
    kernel: int,
    stride: int,
    padding: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As the definition."""
    clients, _, units = gradient.shape[:3]
    weights = inputs.new_empty(clients, units, inputs.shape[2], kernel, kernel)
    bias = inputs.new_empty(clients, 1, units)
    given, behind = to_arena(inputs, samples, columns, EXACT), to_arena(gradient, samples, rows, EXACT)
    places = packed_places(_layout(weights, True), _counts(columns, rows)).to(inputs.device)
    result = inputs.new_zeros(places.size + PAD)
    tiles = _tiles("weight_gradient", weights, columns, rows, behind)
    workspace = inputs.new_empty(triton.partial_size(tiles))
    window: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding}
    triton.weight_gradient(given, behind, samples, result, places, 0, tiles, workspace, **window, precision=EXACT)
    pack(weights, result, places.weight[:, 0].contiguous(), rows, columns, back=True)
    pack(bias, result, places.vectors[:, 0, 0].contiguous(), torch.ones_like(rows), rows, back=True)
    return weights, bias[:, 0]


def _layout(weights: torch.Tensor, bias: bool) -> Layout:
    """Of one layer of rows and columns that are all units."""
    rows, columns, inner = *weights.shape[1:3], weights.shape[3] * weights.shape[4]
    size = rows * columns * inner
    table = [[0, 1, rows, columns, inner, 0, size if bias else -1, -1, -1]]
    return Layout(torch.tensor(table), torch.tensor([0, rows, rows + columns]), size + rows * bias)


def _counts(columns: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return torch.stack([rows, columns], dim=1).cpu()


def _tiles(product: Product, weights: torch.Tensor, columns: torch.Tensor, rows: torch.Tensor, target: Arena) -> Tiles:
    """target: the activations over whose positions the tiles or sums go."""
    most, kernel = (weights.shape[1], weights.shape[2]), weights.shape[4]
    own = architecture(weights.device)
    sizes = target.samples, target.positions, kernel, EXACT, own
    return triton.tiles_of(product, rows.cpu(), columns.cpu(), most, *sizes).to(weights.device)
