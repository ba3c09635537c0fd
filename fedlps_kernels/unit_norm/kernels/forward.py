"""Norm, ReLU and pooling in one pass. Triton code."""

import triton
import triton.language as tl

from fedlps_kernels.rounding import kernel, padded, stored


@triton.jit
def line(
    mean, reciprocal, vectors, vector_places, rows_places, client, layer, layers, widest, column, NORM: tl.constexpr
):
    """Per channel: mean, reciprocal deviation, scale, shift; those of the identity without a norm."""
    if NORM:
        place = client * layers + layer
        own = column < tl.load(rows_places + place)
        at = tl.cast(client, tl.int64) * widest + column
        centre = tl.load(mean + at, mask=own, other=0.0)
        over = tl.load(reciprocal + at, mask=own, other=0.0)
        scale = tl.load(vectors + tl.load(vector_places + 3 * place + 1) + column, mask=own, other=0.0).to(tl.float32)
        shift = tl.load(vectors + tl.load(vector_places + 3 * place + 2) + column, mask=own, other=0.0).to(tl.float32)
    else:
        centre = tl.zeros_like(column).to(tl.float32)
        over, scale, shift = centre + 1.0, centre + 1.0, centre
    return centre, over, scale, shift


@triton.jit
def normed(values, centre, over, scale, shift, NORM: tl.constexpr):
    """(rows, channels) less mean, over deviation; and that times scale, plus shift."""
    apart = values.to(tl.float32)
    result = apart
    if NORM:
        apart = (apart - centre[None, :]) * over[None, :]
        result = apart * scale[None, :] + shift[None, :]
    return apart, result


@kernel
def forward(
    source,
    source_offsets,
    source_channels,
    result,
    result_offsets,
    mean,
    reciprocal,
    vectors,
    vector_places,
    rows_places,
    samples,
    tiles,
    number,
    layer,
    layers,
    widest,
    height,
    width,
    target_height,
    target_width,
    kernel,
    stride,
    NORM: tl.constexpr,
    RELU: tl.constexpr,
    POOL: tl.constexpr,
    PRECISION: tl.constexpr,
    UP: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """Norm, ReLU, pool, each where wanted. POOL: "max", "avg" or "" for none."""
    positions = target_height * target_width
    for tile in range(tl.program_id(0), tl.load(number), tl.num_programs(0)):
        client = tl.load(tiles + 4 * tile)
        row = tl.load(tiles + 4 * tile + 1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        column = tl.load(tiles + 4 * tile + 2) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        wide = padded(tl.load(source_channels + client))
        real = (row < tl.load(samples + client) * positions)[:, None] & (column < wide)[None, :]
        read = source + tl.multiple_of(tl.load(source_offsets + client), 16) + column
        centre, over, scale, shift = line(
            mean, reciprocal, vectors, vector_places, rows_places, client, layer, layers, widest, column, NORM
        )
        if POOL == "":
            given = tl.load(read[None, :] + (row.to(tl.int64) * wide)[:, None], mask=real, other=0.0)
            _, values = normed(given, centre, over, scale, shift, NORM)
            values = positive(values, RELU)
        else:
            y, x = row % positions // target_width * stride, row % target_width * stride
            first = ((row // positions * height + y) * width + x).to(tl.int64)
            values = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
            for r in range(kernel):
                for s in range(kernel):
                    at = first + r * width + s
                    given = tl.load(read[None, :] + (at * wide)[:, None], mask=real, other=0.0)
                    _, value = normed(given, centre, over, scale, shift, NORM)
                    value = positive(value, RELU)
                    if POOL == "max":
                        better = (value > values) | (value != value) | (r + s == 0)
                        values = tl.where(better, value, values)
                    else:
                        values += value
            if POOL == "avg":
                values /= (kernel * kernel).to(tl.float32)
        written = result + tl.multiple_of(tl.load(result_offsets + client), 16) + column
        tl.store(written[None, :] + (row.to(tl.int64) * wide)[:, None], stored(values, PRECISION, UP), mask=real)


@triton.jit
def positive(values, RELU: tl.constexpr):
    """ReLU that lets NaN through, so that a diverged client shows."""
    if RELU:
        values = tl.where(values < 0, 0.0, values)
    return values
