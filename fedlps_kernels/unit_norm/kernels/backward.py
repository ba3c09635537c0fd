"""The gradients of norm, ReLU and pooling. Triton code."""

import triton
import triton.language as tl

from fedlps_kernels.rounding import kernel, padded, stored
from fedlps_kernels.unit_norm.kernels.forward import line, normed


@triton.jit
def behind(
    read,
    gradient,
    row,
    real,
    wide,
    centre,
    over,
    scale,
    shift,
    height,
    width,
    target_height,
    target_width,
    kernel,
    stride,
    NORM: tl.constexpr,
    RELU: tl.constexpr,
    POOL: tl.constexpr,
):
    """The gradient of the norm's outputs (of the inputs without a norm) at some positions, and the normed inputs there.

    read, gradient: pointers to a client's channels. A window's gradient goes to its first maximum, as in torch.
    """
    given = tl.load(read[None, :] + (row.to(tl.int64) * wide)[:, None], mask=real, other=0.0)
    apart, value = normed(given, centre, over, scale, shift, NORM)
    if POOL == "":
        slope = tl.load(gradient[None, :] + (row.to(tl.int64) * wide)[:, None], mask=real, other=0.0).to(tl.float32)
    else:
        sample, y, x = row // (height * width), row % (height * width) // width, row % width
        up, left = y // stride, x // stride
        r_own, s_own = y - up * stride, x - left * stride
        inside = (r_own < kernel) & (s_own < kernel) & (up < target_height) & (left < target_width)
        pooled = ((sample * target_height + up) * target_width + left).to(tl.int64)
        inside = real & inside[:, None]
        slope = tl.load(gradient[None, :] + (pooled * wide)[:, None], mask=inside, other=0.0).to(tl.float32)
        if POOL == "avg":
            slope /= (kernel * kernel).to(tl.float32)
        else:
            first = ((sample * height + up * stride) * width + left * stride).to(tl.int64)
            best = tl.zeros_like(value)
            chosen = tl.zeros_like(value).to(tl.int32)
            for r in range(kernel):
                for s in range(kernel):
                    at = first + r * width + s
                    given = tl.load(read[None, :] + (at * wide)[:, None], mask=inside, other=0.0)
                    _, other = normed(given, centre, over, scale, shift, NORM)
                    better = (other > best) | (other != other) | (r + s == 0)
                    best = tl.where(better, other, best)
                    chosen = tl.where(better, r * kernel + s, chosen)
            slope = tl.where(chosen == (r_own * kernel + s_own)[:, None], slope, 0.0)
    if RELU:
        slope = tl.where(value > 0, slope, 0.0)
    return slope, apart


@kernel
def gradient_sums(
    source,
    source_offsets,
    source_channels,
    gradient,
    gradient_offsets,
    mean,
    reciprocal,
    vectors,
    vector_places,
    rows_places,
    result,
    partial,  # (tiles, 2, BLOCK_COLUMNS), where SPLIT
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
    RELU: tl.constexpr,
    POOL: tl.constexpr,
    SPLIT: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """The gradients of a norm's scale and shift, or (SPLIT) a chunk's part of them."""
    for tile in range(tl.program_id(0), tl.load(number), tl.num_programs(0)):
        client = tl.load(tiles + 4 * tile)
        column = tl.load(tiles + 4 * tile + 2) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        begin = tl.load(tiles + 4 * tile + 3) * CHUNK
        end = tl.load(samples + client) * height * width
        if SPLIT:
            end = tl.minimum(end, begin + CHUNK)
        wide = padded(tl.load(source_channels + client))
        read = source + tl.multiple_of(tl.load(source_offsets + client), 16) + column
        later = gradient + tl.multiple_of(tl.load(gradient_offsets + client), 16) + column
        centre, over, scale, shift = line(
            mean, reciprocal, vectors, vector_places, rows_places, client, layer, layers, widest, column, True
        )
        to_scale = tl.zeros((BLOCK_COLUMNS,), tl.float32)
        to_shift = tl.zeros((BLOCK_COLUMNS,), tl.float32)
        for first in range(begin, end, BLOCK_ROWS):
            row = first + tl.arange(0, BLOCK_ROWS)
            real = (row < end)[:, None] & (column < wide)[None, :]
            slope, apart = behind(
                read, later, row, real, wide, centre, over, scale, shift,
                height, width, target_height, target_width, kernel, stride, True, RELU, POOL,
            )  # fmt: skip
            to_scale += tl.sum(slope * tl.where(real, apart, 0.0), axis=0)
            to_shift += tl.sum(slope, axis=0)
        if SPLIT:
            slot = partial + tl.cast(tile, tl.int64) * (2 * BLOCK_COLUMNS) + tl.arange(0, BLOCK_COLUMNS)
            tl.store(slot, to_scale)
            tl.store(slot + BLOCK_COLUMNS, to_shift)
        else:
            place = vector_places + 3 * (client * layers + layer)
            tl.store(result + tl.load(place + 1) + column, to_scale, mask=column < wide)
            tl.store(result + tl.load(place + 2) + column, to_shift, mask=column < wide)


@kernel
def add_gradient_sums(
    source_channels,
    vector_places,
    result,
    partial,
    tiles,
    number,
    layer,
    layers,
    splits,
    BLOCK_COLUMNS: tl.constexpr,
):
    """The gradients of scale and shift from those of all chunks, added in order."""
    for tile in range(tl.program_id(0), tl.load(number) // splits, tl.num_programs(0)):
        record = tiles + 4 * tile * splits
        client = tl.load(record)
        column = tl.load(record + 2) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        wide = padded(tl.load(source_channels + client))
        slot = partial + tl.cast(tile * splits, tl.int64) * (2 * BLOCK_COLUMNS) + tl.arange(0, BLOCK_COLUMNS)
        to_scale = tl.zeros((BLOCK_COLUMNS,), tl.float32)
        to_shift = tl.zeros((BLOCK_COLUMNS,), tl.float32)
        for _ in range(splits):
            to_scale += tl.load(slot)
            to_shift += tl.load(slot + BLOCK_COLUMNS)
            slot += 2 * BLOCK_COLUMNS
        place = vector_places + 3 * (client * layers + layer)
        tl.store(result + tl.load(place + 1) + column, to_scale, mask=column < wide)
        tl.store(result + tl.load(place + 2) + column, to_shift, mask=column < wide)


@kernel
def backward(
    source,
    source_offsets,
    source_channels,
    gradient,
    gradient_offsets,
    result,
    result_offsets,
    mean,
    reciprocal,
    vectors,
    vector_places,
    rows_places,
    sums,  # flat: the gradients of scale and shift, at the vectors' places
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
    """The gradient of the inputs (Ioffe and Szegedy, ICML 2015, section 3, where there is a norm)."""
    positions = height * width
    for tile in range(tl.program_id(0), tl.load(number), tl.num_programs(0)):
        client = tl.load(tiles + 4 * tile)
        row = tl.load(tiles + 4 * tile + 1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        column = tl.load(tiles + 4 * tile + 2) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        wide = padded(tl.load(source_channels + client))
        rows = tl.load(samples + client) * positions
        real = (row < rows)[:, None] & (column < wide)[None, :]
        read = source + tl.multiple_of(tl.load(source_offsets + client), 16) + column
        later = gradient + tl.multiple_of(tl.load(gradient_offsets + client), 16) + column
        centre, over, scale, shift = line(
            mean, reciprocal, vectors, vector_places, rows_places, client, layer, layers, widest, column, NORM
        )
        slope, apart = behind(
            read, later, row, real, wide, centre, over, scale, shift,
            height, width, target_height, target_width, kernel, stride, NORM, RELU, POOL,
        )  # fmt: skip
        if NORM:
            place = vector_places + 3 * (client * layers + layer)
            own = column < wide
            share = 1 / tl.maximum(rows, 1).to(tl.float32)
            tilt = tl.load(sums + tl.load(place + 1) + column, mask=own, other=0.0) * share
            level = tl.load(sums + tl.load(place + 2) + column, mask=own, other=0.0) * share
            slope = (scale * over)[None, :] * (slope - level[None, :] - apart * tilt[None, :])
        written = result + tl.multiple_of(tl.load(result_offsets + client), 16) + column
        tl.store(written[None, :] + (row.to(tl.int64) * wide)[:, None], stored(slope, PRECISION, UP), mask=real)
