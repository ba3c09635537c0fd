"""Mean and deviation per client and channel, over samples and positions. Triton code."""

import triton
import triton.language as tl

from fedlps_kernels.rounding import kernel, padded


@kernel
def moments(
    source,
    source_offsets,
    source_channels,
    mean,
    reciprocal,
    partial,  # (tiles, 2, BLOCK_COLUMNS), where SPLIT
    samples,
    tiles,
    number,
    height,
    width,
    widest,
    SPLIT: tl.constexpr,
    CHUNK: tl.constexpr,
    EPSILON: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """Mean and reciprocal deviation per channel; of a chunk (SPLIT) its mean and its squares' sum about that.

    Values are taken less the client's first one, so that equal values have no deviation at all.
    """
    for tile in range(tl.program_id(0), tl.load(number), tl.num_programs(0)):
        client = tl.load(tiles + 4 * tile)
        column = tl.load(tiles + 4 * tile + 2) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        begin = tl.load(tiles + 4 * tile + 3) * CHUNK
        end = tl.load(samples + client) * height * width
        some = end > 0
        if SPLIT:
            end = tl.minimum(end, begin + CHUNK)
        wide = padded(tl.load(source_channels + client))
        read = source + tl.multiple_of(tl.load(source_offsets + client), 16) + column
        pivot = tl.load(read, mask=(column < wide) & some, other=0.0).to(tl.float32)
        centre = tl.zeros((BLOCK_COLUMNS,), tl.float32)
        squares = tl.zeros((BLOCK_COLUMNS,), tl.float32)
        count = 0.0
        for first in range(begin, end, BLOCK_ROWS):
            row = first + tl.arange(0, BLOCK_ROWS)
            real = (row < end)[:, None] & (column < wide)[None, :]
            values = tl.load(read[None, :] + (row.to(tl.int64) * wide)[:, None], mask=real, other=0.0).to(tl.float32)
            values = tl.where(real, values - pivot[None, :], 0.0)
            more = tl.minimum(end - first, BLOCK_ROWS).to(tl.float32)
            own = tl.sum(values, axis=0) / more
            apart = tl.where(real, values - own[None, :], 0.0)
            centre, squares, count = merged(centre, squares, count, own, tl.sum(apart * apart, axis=0), more)
        if SPLIT:
            slot = partial + tl.cast(tile, tl.int64) * (2 * BLOCK_COLUMNS) + tl.arange(0, BLOCK_COLUMNS)
            tl.store(slot, centre)
            tl.store(slot + BLOCK_COLUMNS, squares)
        else:
            result = tl.cast(client, tl.int64) * widest + column
            tl.store(mean + result, pivot + centre, mask=column < wide)
            variance = squares / tl.maximum(count, 1.0)
            tl.store(reciprocal + result, 1 / tl.sqrt_rn(variance + EPSILON), mask=column < wide)


@triton.jit
def merged(mean, squares, count, other_mean, other_squares, other_count):
    """Two parts' statistics as one's (Chan, Golub and LeVeque, COMPSTAT 1982, eqs. 2.1). Counts are not both 0."""
    total = count + other_count
    apart = other_mean - mean
    share = other_count / total
    return mean + apart * share, squares + other_squares + apart * apart * (count * share), total


@kernel
def merge_moments(
    source,
    source_offsets,
    source_channels,
    mean,
    reciprocal,
    partial,
    samples,
    tiles,
    number,
    height,
    width,
    widest,
    splits,
    CHUNK: tl.constexpr,
    EPSILON: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """The statistics of all chunks, merged in order."""
    for tile in range(tl.program_id(0), tl.load(number) // splits, tl.num_programs(0)):
        record = tiles + 4 * tile * splits
        client = tl.load(record)
        column = tl.load(record + 2) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        rows = tl.load(samples + client) * height * width
        wide = padded(tl.load(source_channels + client))
        read = source + tl.multiple_of(tl.load(source_offsets + client), 16) + column
        pivot = tl.load(read, mask=(column < wide) & (rows > 0), other=0.0).to(tl.float32)
        slot = partial + tl.cast(tile * splits, tl.int64) * (2 * BLOCK_COLUMNS) + tl.arange(0, BLOCK_COLUMNS)
        centre = tl.zeros((BLOCK_COLUMNS,), tl.float32)
        squares = tl.zeros((BLOCK_COLUMNS,), tl.float32)
        count = 0.0
        for first in range(0, rows, CHUNK):
            more = tl.minimum(rows - first, CHUNK).to(tl.float32)
            own, apart = tl.load(slot), tl.load(slot + BLOCK_COLUMNS)
            centre, squares, count = merged(centre, squares, count, own, apart, more)
            slot += 2 * BLOCK_COLUMNS
        result = tl.cast(client, tl.int64) * widest + column
        tl.store(mean + result, pivot + centre, mask=column < wide)
        variance = squares / tl.maximum(count, 1.0)
        tl.store(reciprocal + result, 1 / tl.sqrt_rn(variance + EPSILON), mask=column < wide)
