"""The gradient of weights and bias. Triton code."""

import triton
import triton.language as tl

from fedlps_kernels.rounding import kernel, padded, single


@kernel
def weight_gradient(
    source,  # the layer's inputs, (height, width)
    source_offsets,
    source_channels,
    gradient,  # of its outputs, (target_height, target_width)
    gradient_offsets,
    gradient_channels,
    result,  # where SPLIT, (tiles, BLOCK_ROWS, BLOCK_COLUMNS): for `add_splits`
    weight_places,
    row_places,
    inner_places,
    vector_places,
    rows_places,
    samples,
    scale,
    tiles,
    number,
    layer,
    layers,
    height,
    width,
    target_height,
    target_width,
    kernel,
    stride,
    padding,
    POINTWISE: tl.constexpr,
    SPLIT: tl.constexpr,
    CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
    UP: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
):
    """Units x channels per tap; before the first tap, a tile whose first column is the gradient of the bias.

    SPLIT: each tile is a sum over CHUNK positions.
    """
    positions = target_height * target_width
    for tile in range(tl.program_id(0), tl.load(number), tl.num_programs(0)):
        client = tl.load(tiles + 4 * tile)
        row_tile, column_tile = tl.load(tiles + 4 * tile + 1), tl.load(tiles + 4 * tile + 2)
        row = row_tile * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        wide = padded(tl.load(source_channels + client))
        across = tl.maximum(tl.cdiv(wide, BLOCK_COLUMNS), 1)
        tap = (column_tile - 1) // across
        column = (column_tile - 1) % across * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        begin = tl.load(tiles + 4 * tile + 3) * CHUNK
        end = tl.load(samples + client) * positions
        if SPLIT:
            end = tl.minimum(end, begin + CHUNK)
        units = padded(tl.load(gradient_channels + client))
        behind = gradient + tl.multiple_of(tl.load(gradient_offsets + client), 16) + row
        read = source + tl.multiple_of(tl.load(source_offsets + client), 16) + column
        if column_tile == 0:
            bias = tl.zeros((BLOCK_ROWS, BLOCK_DEPTH), tl.float32)
            for first in range(begin, end, BLOCK_DEPTH):
                entry = first + tl.arange(0, BLOCK_DEPTH)
                held = behind[:, None] + (entry.to(tl.int64) * units)[None, :]
                bias += tl.load(held, mask=(row < units)[:, None] & (entry < end)[None, :], other=0.0).to(tl.float32)
            sums = tl.where(tl.arange(0, BLOCK_COLUMNS)[None, :] == 0, tl.sum(bias, axis=1)[:, None], 0.0)
        else:
            r, s = tap // kernel, tap % kernel
            sums = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
            for first in range(begin, end, BLOCK_DEPTH):
                entry = first + tl.arange(0, BLOCK_DEPTH)
                held = behind[:, None] + (entry.to(tl.int64) * units)[None, :]
                a = tl.load(held, mask=(row < units)[:, None] & (entry < end)[None, :], other=0.0)
                at, inside = entry, entry < end
                if not POINTWISE:
                    y = entry % positions // target_width * stride - padding + r
                    x = entry % target_width * stride - padding + s
                    inside &= (y >= 0) & (y < height) & (x >= 0) & (x < width)
                    at = (entry // positions * height + y) * width + x
                held = read[None, :] + (at.to(tl.int64) * wide)[:, None]
                b = tl.load(held, mask=inside[:, None] & (column < wide)[None, :], other=0.0)
                sums = tl.dot(
                    single(a, UP), single(b, UP), sums, input_precision="ieee" if PRECISION == "fp32" else "tf32"
                )
        if SPLIT:
            inner = tl.arange(0, BLOCK_ROWS)[:, None] * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)[None, :]
            tl.store(result + tl.cast(tile, tl.int64) * (BLOCK_ROWS * BLOCK_COLUMNS) + inner, sums)
        else:
            place = client * layers + layer
            if scale is not None:
                sums *= tl.load(scale + client)
            _write(
                sums, result, weight_places, row_places, inner_places, vector_places, rows_places,
                place, row, column, wide, units, column_tile, tap, BLOCK_COLUMNS,
            )  # fmt: skip


@kernel
def add_splits(
    partial,
    source_channels,
    gradient_channels,
    result,
    weight_places,
    row_places,
    inner_places,
    vector_places,
    rows_places,
    scale,
    tiles,
    number,
    layer,
    layers,
    splits,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """The sums of a tile's splits, in order, to where the gradient belongs."""
    for tile in range(tl.program_id(0), tl.load(number) // splits, tl.num_programs(0)):
        record = tiles + 4 * tile * splits
        client, column_tile = tl.load(record), tl.load(record + 2)
        inner = tl.arange(0, BLOCK_ROWS)[:, None] * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)[None, :]
        part = partial + tl.cast(tile * splits, tl.int64) * (BLOCK_ROWS * BLOCK_COLUMNS) + inner
        sums = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
        for _ in range(splits):
            sums += tl.load(part)
            part += BLOCK_ROWS * BLOCK_COLUMNS
        if scale is not None:
            sums *= tl.load(scale + client)
        wide, units = padded(tl.load(source_channels + client)), padded(tl.load(gradient_channels + client))
        across = tl.maximum(tl.cdiv(wide, BLOCK_COLUMNS), 1)
        row = tl.load(record + 1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        column = (column_tile - 1) % across * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        place = client * layers + layer
        _write(
            sums, result, weight_places, row_places, inner_places, vector_places, rows_places,
            place, row, column, wide, units, column_tile, (column_tile - 1) // across, BLOCK_COLUMNS,
        )  # fmt: skip


@triton.jit
def _write(
    sums,
    result,
    weight_places,
    row_places,
    inner_places,
    vector_places,
    rows_places,
    place,
    row,
    column,
    wide,
    units,
    column_tile,
    tap,
    BLOCK_COLUMNS: tl.constexpr,
):
    """A tile of the weight's gradient, or (column tile 0) its first column as that of the bias, if there is one."""
    if column_tile == 0:
        vector = tl.load(vector_places + 3 * place)
        written = result + vector + row[:, None] + tl.zeros((1, BLOCK_COLUMNS), tl.int32)
        mask = (row < units)[:, None] & (tl.arange(0, BLOCK_COLUMNS) == 0)[None, :] & (vector >= 0)
    else:
        row_step = tl.multiple_of(tl.load(row_places + place), 16)
        inner_step = tl.multiple_of(tl.load(inner_places + place), 16)
        packed = result + tl.multiple_of(tl.load(weight_places + place), 16) + tap * inner_step
        written = packed + (row * row_step)[:, None] + column[None, :]
        mask = (row < tl.load(rows_places + place))[:, None] & (column < wide)[None, :]
    tl.store(written, sums, mask=mask)
