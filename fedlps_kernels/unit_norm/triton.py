"""Launches of the kernels of a stage: what lies behind a layer, in the order norm, ReLU, pool, each where wanted.

Maximum pooling and ReLU commute, so this serves both orders; average pooling before ReLU is two stages. Nothing is
allocated or read back. C clients; samples: (C,) int32, real samples of each client now.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from fedlps_kernels import launching
from fedlps_kernels.arena import Arena
from fedlps_kernels.places import Places
from fedlps_kernels.tiles import Tiles, pieces, tiles
from fedlps_kernels.tuning import FEW, STAGES, Precision
from fedlps_kernels.unit_norm.definition import EPSILON
from fedlps_kernels.unit_norm.kernels import backward as gradients
from fedlps_kernels.unit_norm.kernels import forward as values
from fedlps_kernels.unit_norm.kernels import moments


@dataclass(frozen=True)
class Norm:
    """A stage's norm. mean, reciprocal (of the deviation): (C, widest) float32, widest at least the padded channels.

    vectors: flat; scale and shift of `layer` lie at `places.vectors`, and so do their gradients in their own buffer.
    """

    mean: torch.Tensor
    reciprocal: torch.Tensor
    vectors: torch.Tensor
    places: Places
    layer: int


@dataclass(frozen=True)
class Pool:
    """A stage's pool, without overlap or padding: 1 <= kernel <= stride."""

    kind: Literal["max", "avg"]
    kernel: int
    stride: int

    def __post_init__(self) -> None:
        """ValueError, one line, for a window that overlaps the next."""
        if self.kind not in ("max", "avg"):
            raise ValueError(f"kind: got {self.kind!r}, expected max or avg")
        if not 1 <= self.kernel <= self.stride:
            raise ValueError(f"kernel: got {self.kernel}, expected 1 <= kernel <= stride = {self.stride}")


def tiles_of(
    kind: Literal["sums", "positions"], channels: torch.Tensor, most: int, samples: int, positions: int
) -> Tiles:
    """The list for `statistics` and the sums of `backward` ("sums"), or for what writes activations ("positions").

    channels: (C,) integers on the CPU; most: those of the whole layer. samples: the most of any client. positions: of
    the activations that are summed or written.
    """
    block = STAGES["narrow" if most <= FEW else "wide"]
    ones = torch.ones_like(channels, dtype=torch.int64)
    across = pieces(channels, block.columns)
    if kind == "sums":
        return tiles(ones, across, ones, block, max(-(-samples * positions // block.chunk), 1))
    return tiles(-(-samples * positions // block.rows) * ones, across, channels, block)


def partial_size(tiles: Tiles) -> int:
    """Entries of the workspace that sums with this list want."""
    return len(tiles.records) * 2 * tiles.block.columns if tiles.splits > 1 else 0


def statistics(
    inputs: Arena,
    samples: torch.Tensor,
    norm: Norm,
    tiles: Tiles,
    workspace: torch.Tensor | None = None,
    *,
    programs: int | None = None,
) -> None:
    """Writes `norm.mean` and `norm.reciprocal` of the inputs. tiles: "sums"."""
    split, widest = _workspace(tiles, workspace), norm.mean.shape[1]
    grid, block = launching.programs(tiles, programs), tiles.block
    read = inputs.data, inputs.offsets, inputs.channels, norm.mean, norm.reciprocal, workspace, samples
    sizes = inputs.height, inputs.width, widest
    moments.moments[grid](
        *read,
        tiles.records,
        tiles.number,
        *sizes,
        SPLIT=split,
        CHUNK=block.chunk,
        EPSILON=EPSILON,
        BLOCK_ROWS=block.rows,
        BLOCK_COLUMNS=block.columns,
        num_warps=block.warps,
        num_stages=block.stages,
    )
    if split:
        moments.merge_moments[grid](
            *read,
            tiles.records,
            tiles.number,
            *sizes,
            tiles.splits,
            CHUNK=block.chunk,
            EPSILON=EPSILON,
            BLOCK_COLUMNS=block.columns,
            num_warps=1,
            num_stages=1,
        )


def forward(
    inputs: Arena,
    samples: torch.Tensor,
    outputs: Arena,
    tiles: Tiles,
    *,
    norm: Norm | None,
    relu: bool,
    pool: Pool | None,
    precision: Precision,
    programs: int | None = None,
) -> None:
    """Writes a stage's outputs; its norm's statistics must be there. tiles: "positions" of the outputs."""
    launching.check(precision, inputs=inputs.data, outputs=outputs.data)
    values.forward[launching.programs(tiles, programs)](
        inputs.data,
        inputs.offsets,
        inputs.channels,
        outputs.data,
        outputs.offsets,
        *_line(norm),
        samples,
        tiles.records,
        tiles.number,
        *_sizes(norm, inputs, outputs, pool),
        **_what(norm, relu, pool),
        **_shape(tiles, precision),
    )


def backward(
    inputs: Arena,
    gradient: Arena,
    samples: torch.Tensor,
    result: Arena,
    tiles: Tiles,
    *,
    norm: Norm | None,
    relu: bool,
    pool: Pool | None,
    precision: Precision,
    sums: torch.Tensor | None = None,
    sum_tiles: Tiles | None = None,
    workspace: torch.Tensor | None = None,
    programs: int | None = None,
) -> None:
    """From the gradient of a stage's outputs to that of its inputs, into `result`.

    tiles: "positions" of the inputs. With a norm, its scale's and shift's gradients are written to `sums`, flat
    float32, at their places; sum_tiles: "sums" of the inputs. A window's gradient goes to its first maximum.
    """
    launching.check(precision, inputs=inputs.data, gradient=gradient.data, result=result.data)
    read = inputs.data, inputs.offsets, inputs.channels, gradient.data, gradient.offsets
    sizes = _sizes(norm, inputs, gradient, pool)
    what = _what(norm, relu, pool)
    if norm is not None:
        if sums is None or sum_tiles is None:
            raise ValueError("sums: got none, expected a buffer and its tiles for the gradients of a norm")
        launching.check("fp32", sums=sums)
        split, block = _workspace(sum_tiles, workspace), sum_tiles.block
        grid = launching.programs(sum_tiles, programs)
        gradients.gradient_sums[grid](
            *read,
            *_line(norm),
            sums,
            workspace,
            samples,
            sum_tiles.records,
            sum_tiles.number,
            *sizes,
            RELU=relu,
            POOL=what["POOL"],
            SPLIT=split,
            CHUNK=block.chunk,
            BLOCK_ROWS=block.rows,
            BLOCK_COLUMNS=block.columns,
            num_warps=block.warps,
            num_stages=block.stages,
        )
        if split:
            gradients.add_gradient_sums[grid](
                inputs.channels,
                norm.places.vectors,
                sums,
                workspace,
                sum_tiles.records,
                sum_tiles.number,
                *sizes[:2],
                sum_tiles.splits,
                BLOCK_COLUMNS=block.columns,
                num_warps=1,
                num_stages=1,
            )
    gradients.backward[launching.programs(tiles, programs)](
        *read,
        result.data,
        result.offsets,
        *_line(norm),
        sums,
        samples,
        tiles.records,
        tiles.number,
        *sizes,
        **what,
        **_shape(tiles, precision),
    )


def _workspace(tiles: Tiles, workspace: torch.Tensor | None) -> bool:
    """Whether sums are split; if so, there must be room for their parts."""
    needed = partial_size(tiles)
    if needed and (workspace is None or workspace.numel() < needed):
        got = None if workspace is None else workspace.numel()
        raise ValueError(f"workspace: got {got} entries, expected at least {needed}")
    return tiles.splits > 1


def _line(norm: Norm | None) -> tuple[torch.Tensor | None, ...]:
    if norm is None:
        return (None,) * 5
    return norm.mean, norm.reciprocal, norm.vectors, norm.places.vectors, norm.places.rows


def _sizes(norm: Norm | None, inputs: Arena, outputs: Arena, pool: Pool | None) -> tuple[int, ...]:
    own = (0, 0, 0) if norm is None else (norm.layer, norm.places.rows.shape[1], norm.mean.shape[1])
    window = (1, 1) if pool is None else (pool.kernel, pool.stride)
    return *own, inputs.height, inputs.width, outputs.height, outputs.width, *window


def _what(norm: Norm | None, relu: bool, pool: Pool | None) -> dict[str, Any]:
    return {"NORM": norm is not None, "RELU": relu, "POOL": "" if pool is None else pool.kind}


def _shape(tiles: Tiles, precision: Precision) -> dict[str, Any]:
    block = tiles.block
    shape = {"BLOCK_ROWS": block.rows, "BLOCK_COLUMNS": block.columns}
    warps = {"num_warps": block.warps, "num_stages": block.stages}
    return {"PRECISION": precision, "UP": launching.interpreted(), **shape, **warps}
