"""Launches of the grouped convolution's kernels, on arenas and packed weights: nothing is allocated or read back.

Everything that varies between clients and steps is read from device memory, so a captured graph holds for other counts.
C clients; samples: (C,) int32, real samples of each client now; scale: (C,) float32 that the layer's outputs, bias
included, are multiplied by, or None. In precision "tf32" what is stored is rounded to TF32, in "bf16" it is bfloat16.
"""

import torch

from fedlps_kernels import launching
from fedlps_kernels.arena import Arena
from fedlps_kernels.grouped_conv2d.kernels import contract
from fedlps_kernels.grouped_conv2d.kernels import weight_gradient as gradients
from fedlps_kernels.places import Places, padded
from fedlps_kernels.tiles import Tiles, pieces, tiles
from fedlps_kernels.tuning import ADD_WARPS, PRODUCTS, Precision, Product, shape


def tiles_of(
    product: Product,
    rows: torch.Tensor,
    columns: torch.Tensor,
    most: tuple[int, int],
    samples: int,
    positions: int,
    kernel: int,
    precision: Precision,
    architecture: int = 90,
) -> Tiles:
    """The list for one product of a layer, on the CPU.

    rows, columns: (C,) integers on the CPU, channels of the layer's outputs and inputs (of a linear layer behind a
    flatten: those of `Arena.flattened`). most: rows and columns of the whole layer. samples: the most of any client.
    positions: of the outputs, for the input gradient of the inputs. architecture: 80 or 90.
    """
    launching.check(precision)
    backward = product == "input_gradient"
    block = PRODUCTS[product, architecture, precision, shape(*(most[::-1] if backward else most))]
    taps, ones = kernel * kernel, torch.ones_like(rows, dtype=torch.int64)
    if product == "weight_gradient":
        across = torch.where(rows > 0, taps * pieces(columns, block.columns) + 1, 0)
        splits = max(-(-samples * positions // block.chunk), 1)
        return tiles(pieces(rows, block.rows), across, ones, block, splits)
    target, source = (columns, rows) if backward else (rows, columns)
    down = -(-samples * positions // block.rows)
    return tiles(down * ones, pieces(target, block.columns), padded(source), block)


def forward(
    inputs: Arena,
    weights: torch.Tensor,
    places: Places,
    layer: int,
    samples: torch.Tensor,
    outputs: Arena,
    tiles: Tiles,
    *,
    kernel: int,
    stride: int,
    padding: int,
    scale: torch.Tensor | None = None,
    precision: Precision,
    programs: int | None = None,
) -> None:
    """Writes a layer's outputs. weights: flat, entries at `places` (packed), with the bias if the layer has one."""
    _contract(inputs, weights, places, layer, samples, outputs, tiles, (kernel, stride, padding), scale, precision,
              programs, backward=False)  # fmt: skip


def input_gradient(
    gradient: Arena,
    weights: torch.Tensor,
    places: Places,
    layer: int,
    samples: torch.Tensor,
    inputs: Arena,
    tiles: Tiles,
    *,
    kernel: int,
    stride: int,
    padding: int,
    scale: torch.Tensor | None = None,
    precision: Precision,
    transposed: bool = False,
    programs: int | None = None,
) -> None:
    """From the gradient of a layer's outputs to that of its inputs, into `inputs`.

    transposed: the places are `places.transposed` (TF32 wants that), else `places.packed`.
    """
    _contract(gradient, weights, places, layer, samples, inputs, tiles, (kernel, stride, padding), scale, precision,
              programs, backward=True, transposed=transposed)  # fmt: skip


def _contract(
    source: Arena,
    weights: torch.Tensor,
    places: Places,
    layer: int,
    samples: torch.Tensor,
    result: Arena,
    tiles: Tiles,
    window: tuple[int, int, int],
    scale: torch.Tensor | None,
    precision: Precision,
    programs: int | None,
    *,
    backward: bool,
    transposed: bool = False,
) -> None:
    launching.check(precision, source=source.data, weights=weights, result=result.data)
    contract.contract[launching.programs(tiles, programs)](
        source.data,
        source.offsets,
        source.channels,
        weights,
        places.weight,
        places.row,
        places.column,
        places.inner,
        places.vectors,
        places.rows,
        places.columns,
        result.data,
        result.offsets,
        result.channels,
        samples,
        scale,
        tiles.records,
        tiles.number,
        layer,
        places.weight.shape[1],
        source.height,
        source.width,
        result.height,
        result.width,
        *window,
        POINTWISE=window == (1, 1, 0),
        BACKWARD=backward,
        STRIDED=backward and window[1] > 1,
        TRANSPOSED=transposed,
        PRECISION=precision,
        UP=launching.interpreted(),
        **_shape(tiles),
    )


def weight_gradient(
    inputs: Arena,
    gradient: Arena,
    samples: torch.Tensor,
    result: torch.Tensor,
    places: Places,
    layer: int,
    tiles: Tiles,
    workspace: torch.Tensor | None = None,
    *,
    kernel: int,
    stride: int,
    padding: int,
    scale: torch.Tensor | None = None,
    precision: Precision,
    programs: int | None = None,
) -> None:
    """Writes the gradients of a layer's weight and bias at their packed places in `result`, flat float32.

    workspace: float32, `partial_size(tiles)` entries or more; may be None where that is 0.
    """
    launching.check(precision, inputs=inputs.data, gradient=gradient.data)
    launching.check("fp32", result=result)
    split = tiles.splits > 1
    needed = partial_size(tiles)
    if split and (workspace is None or workspace.numel() < needed):
        got = None if workspace is None else workspace.numel()
        raise ValueError(f"workspace: got {got} entries, expected at least {needed}")
    grid = launching.programs(tiles, programs)
    at = places.weight, places.row, places.inner, places.vectors, places.rows
    gradients.weight_gradient[grid](
        inputs.data,
        inputs.offsets,
        inputs.channels,
        gradient.data,
        gradient.offsets,
        gradient.channels,
        workspace if split else result,
        *at,
        samples,
        scale,
        tiles.records,
        tiles.number,
        layer,
        places.weight.shape[1],
        inputs.height,
        inputs.width,
        gradient.height,
        gradient.width,
        kernel,
        stride,
        padding,
        POINTWISE=(kernel, stride, padding) == (1, 1, 0),
        SPLIT=split,
        CHUNK=tiles.block.chunk,
        PRECISION=precision,
        UP=launching.interpreted(),
        **_shape(tiles),
    )
    if split:
        block = tiles.block
        gradients.add_splits[grid](
            workspace,
            inputs.channels,
            gradient.channels,
            result,
            *at,
            scale,
            tiles.records,
            tiles.number,
            layer,
            places.weight.shape[1],
            tiles.splits,
            BLOCK_ROWS=block.rows,
            BLOCK_COLUMNS=block.columns,
            num_warps=ADD_WARPS,
            num_stages=1,
        )


def partial_size(tiles: Tiles) -> int:
    """Entries of the workspace that a weight gradient with this list wants."""
    return len(tiles.records) * tiles.block.rows * tiles.block.columns if tiles.splits > 1 else 0


def _shape(tiles: Tiles) -> dict[str, int]:
    block = tiles.block
    return {
        "BLOCK_ROWS": block.rows,
        "BLOCK_COLUMNS": block.columns,
        "BLOCK_DEPTH": block.depth,
        "num_warps": block.warps,
        "num_stages": block.stages,
    }
