"""Matrix products of unequal clients as implicit convolutions. Triton code, launched by `triton.py` beside it.

Every program walks the tile list. Activations lie channels innermost (`Arena`), weights as `Places` says; both pad
their innermost dimension with zeros to 16 elements, and masks compare with the padded bound: only so are copies wide.
A linear layer is a convolution on one position (POINTWISE).
"""

import triton
import triton.language as tl

from fedlps_kernels.rounding import NEVER_SPECIALIZED, padded, single, stored


@triton.jit(do_not_specialize=NEVER_SPECIALIZED)
def contract(
    source,  # activations read, (height, width): the inputs, or the outputs' gradient
    source_offsets,
    source_channels,
    weights,
    weight_places,  # (C, L) each, as in Places
    row_places,
    column_places,
    inner_places,
    vector_places,
    rows_places,
    columns_places,
    result,  # activations written, (target_height, target_width)
    result_offsets,
    result_channels,
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
    BACKWARD: tl.constexpr,
    STRIDED: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    PRECISION: tl.constexpr,
    UP: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
):
    """Outputs from inputs, or (BACKWARD) the inputs' gradient from that of the outputs."""
    positions = target_height * target_width
    for tile in range(tl.program_id(0), tl.load(number), tl.num_programs(0)):
        client = tl.load(tiles + 4 * tile)
        row = tl.load(tiles + 4 * tile + 1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        column = tl.load(tiles + 4 * tile + 2) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        place = client * layers + layer
        real = row < tl.load(samples + client) * positions

        # rows of the source: that of the first tap, and what follows from it for the others
        depth = padded(tl.load(source_channels + client))
        read = source + tl.multiple_of(tl.load(source_offsets + client), 16)
        sample, y, x = row // positions, row % positions // target_width, row % target_width
        if POINTWISE:
            first = row
        elif BACKWARD:
            y, x = y + padding, x + padding
            first = (sample * height + y) * width + x
        else:
            y, x = y * stride - padding, x * stride - padding
            first = (sample * height + y) * width + x
        first_read = read + first.to(tl.int64) * depth

        # columns of the weights
        row_step = tl.load(row_places + place)
        column_step = tl.load(column_places + place)
        inner_step = tl.multiple_of(tl.load(inner_places + place), 16)
        own_rows = tl.load(rows_places + place)
        packed = weights + tl.multiple_of(tl.load(weight_places + place), 16)
        if TRANSPOSED:
            column_step = tl.multiple_of(column_step, 16)
            own_columns = tl.load(columns_places + place)
            unit, spread = column % padded(own_columns), column // padded(own_columns)
            wanted = unit < own_columns
            wanted &= column < padded(tl.load(result_channels + client))
            first_weight = packed + unit * column_step + spread * inner_step
        elif BACKWARD:
            row_step = tl.multiple_of(row_step, 16)
            wanted = column < padded(tl.load(result_channels + client))
            first_weight = packed + column
        else:
            row_step = tl.multiple_of(row_step, 16)
            wanted = column < own_rows
            first_weight = packed + column * row_step

        sums = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
        taps = 1 if POINTWISE else kernel * kernel
        r, s, k = 0, 0, 0
        for _ in range(0, taps * tl.cdiv(depth, BLOCK_DEPTH)):
            entry = k + tl.arange(0, BLOCK_DEPTH)
            if POINTWISE:
                inside = real
                values = first_read[:, None] + entry[None, :]
            elif BACKWARD and STRIDED:
                up, left = y - r, x - s
                inside = real & (up >= 0) & (left >= 0) & (up % stride == 0) & (left % stride == 0)
                inside &= (up // stride < height) & (left // stride < width)
                at = (sample * height + up // stride) * width + left // stride
                values = (read + at.to(tl.int64) * depth)[:, None] + entry[None, :]
            elif BACKWARD:
                inside = real & (y >= r) & (y - r < height) & (x >= s) & (x - s < width)
                values = first_read[:, None] + (entry - (r * width + s) * depth)[None, :]
            else:
                inside = real & (y + r >= 0) & (y + r < height) & (x + s >= 0) & (x + s < width)
                values = first_read[:, None] + (entry + (r * width + s) * depth)[None, :]
            a = tl.load(values, mask=inside[:, None] & (entry < depth)[None, :], other=0.0)
            tap = (r * kernel + s) * inner_step
            if BACKWARD and not TRANSPOSED:
                held = first_weight[None, :] + (entry * row_step + tap)[:, None]
                b = tl.load(held, mask=(entry < own_rows)[:, None] & wanted[None, :], other=0.0)
            else:
                held = first_weight[None, :] + (entry + tap)[:, None]
                b = tl.load(held, mask=(entry < depth)[:, None] & wanted[None, :], other=0.0)
            sums = tl.dot(
                single(a, UP), single(b, UP), sums, input_precision="ieee" if PRECISION == "fp32" else "tf32"
            )
            k += BLOCK_DEPTH
            done = k >= depth
            k = tl.where(done, 0, k)
            s += done.to(tl.int32)
            over = s == kernel
            s = tl.where(over, 0, s)
            r += over.to(tl.int32)

        if not BACKWARD:
            vector = tl.load(vector_places + 3 * place)
            bias = tl.load(weights + vector + column, mask=wanted & (vector >= 0), other=0.0)
            sums += bias.to(tl.float32)[None, :]
        if scale is not None:
            sums *= tl.load(scale + client)
        wide = padded(tl.load(result_channels + client))
        written = result + tl.multiple_of(tl.load(result_offsets + client), 16)
        written += (row.to(tl.int64) * wide)[:, None] + column[None, :]
        tl.store(written, stored(sums, PRECISION, UP), mask=real[:, None] & (column < wide)[None, :])


@triton.jit(do_not_specialize=NEVER_SPECIALIZED)
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
    """Per tap, units x channels; behind the last tap, a tile whose first column is the bias's gradient.

    SPLIT: each tile is a sum over CHUNK positions.
    """
    positions = target_height * target_width
    for tile in range(tl.program_id(0), tl.load(number), tl.num_programs(0)):
        client = tl.load(tiles + 4 * tile)
        row_tile, column_tile = tl.load(tiles + 4 * tile + 1), tl.load(tiles + 4 * tile + 2)
        row = row_tile * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        wide = padded(tl.load(source_channels + client))
        across = tl.cdiv(wide, BLOCK_COLUMNS)
        tap = column_tile // across
        column = column_tile % across * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        begin = tl.load(tiles + 4 * tile + 3) * CHUNK
        end = tl.load(samples + client) * positions
        if SPLIT:
            end = tl.minimum(end, begin + CHUNK)
        units = padded(tl.load(gradient_channels + client))
        behind = gradient + tl.multiple_of(tl.load(gradient_offsets + client), 16) + row
        read = source + tl.multiple_of(tl.load(source_offsets + client), 16) + column
        taps = 1 if POINTWISE else kernel * kernel
        if tap == taps:
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
            tl.store(result + tile.to(tl.int64) * (BLOCK_ROWS * BLOCK_COLUMNS) + inner, sums)
        else:
            place = client * layers + layer
            if scale is not None:
                sums *= tl.load(scale + client)
            _write(
                sums, result, weight_places, row_places, inner_places, vector_places, rows_places,
                place, row, column, wide, units, tap, taps, BLOCK_COLUMNS,
            )  # fmt: skip


@triton.jit(do_not_specialize=NEVER_SPECIALIZED)
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
    kernel,
    splits,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """The sums of a tile's splits, in order, to where the gradient belongs."""
    for tile in range(tl.program_id(0), tl.load(number) // splits, tl.num_programs(0)):
        record = tiles + 4 * tile * splits
        client, column_tile = tl.load(record), tl.load(record + 2)
        inner = tl.arange(0, BLOCK_ROWS)[:, None] * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)[None, :]
        part = partial + (tile * splits).to(tl.int64) * (BLOCK_ROWS * BLOCK_COLUMNS) + inner
        sums = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
        for split in range(0, splits):
            sums += tl.load(part + split.to(tl.int64) * (BLOCK_ROWS * BLOCK_COLUMNS))
        if scale is not None:
            sums *= tl.load(scale + client)
        wide, units = padded(tl.load(source_channels + client)), padded(tl.load(gradient_channels + client))
        across = tl.cdiv(wide, BLOCK_COLUMNS)
        row = tl.load(record + 1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        column = column_tile % across * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        place = client * layers + layer
        _write(
            sums, result, weight_places, row_places, inner_places, vector_places, rows_places,
            place, row, column, wide, units, column_tile // across, kernel * kernel, BLOCK_COLUMNS,
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
    tap,
    taps,
    BLOCK_COLUMNS: tl.constexpr,
):
    """A tile of the weight's gradient (tap < taps), or its first column as the bias's, if the layer has one."""
    if tap == taps:
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
