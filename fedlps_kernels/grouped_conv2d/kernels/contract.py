"""Outputs from inputs, and the gradient of the inputs. Triton code."""

import triton.language as tl

from fedlps_kernels.rounding import kernel, padded, single, stored


@kernel
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
        for _ in range(taps * tl.cdiv(depth, BLOCK_DEPTH)):
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
            tap = 0 if POINTWISE else (r * kernel + s) * inner_step
            if BACKWARD and not TRANSPOSED:
                held = first_weight[None, :] + (entry * row_step + tap)[:, None]
                b = tl.load(held, mask=(entry < own_rows)[:, None] & wanted[None, :], other=0.0)
            else:
                held = first_weight[None, :] + (entry + tap)[:, None]
                b = tl.load(held, mask=(entry < depth)[:, None] & wanted[None, :], other=0.0)
            sums = tl.dot(single(a, UP), single(b, UP), sums, input_precision="ieee" if PRECISION == "fp32" else "tf32")
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
