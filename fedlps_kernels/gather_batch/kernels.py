"""Gathering batches. Triton code, launched by `triton.py` beside it."""

import triton.language as tl

from fedlps_kernels.rounding import kernel, padded, stored


@kernel
def gather_batch(
    images,  # (n, channels, positions)
    table,  # (channels, 256)
    indices,  # (clients, room)
    result,
    offsets,
    samples,
    clients,
    room,
    channels,
    height,
    width,
    PRECISION: tl.constexpr,
    UP: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """Positions x channels of one client per program and turn."""
    positions = height * width
    wide = padded(channels)
    down, across = tl.cdiv(room * positions, BLOCK_ROWS), tl.cdiv(wide, BLOCK_COLUMNS)
    for tile in range(tl.program_id(0), clients * down * across, tl.num_programs(0)):
        client = tile // (down * across)
        row = tile // across % down * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        column = tile % across * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        real = row < tl.load(samples + client) * positions
        image = tl.load(indices + tl.cast(client, tl.int64) * room + row // positions, mask=real, other=0)
        known = real[:, None] & (column < channels)[None, :]
        byte = (image * channels)[:, None] + column[None, :]
        byte = tl.load(images + byte * positions + (row % positions)[:, None], mask=known, other=0).to(tl.int32)
        values = tl.load(table + column[None, :] * 256 + byte, mask=known, other=0.0)
        written = result + tl.multiple_of(tl.load(offsets + client), 16)
        written += (row.to(tl.int64) * wide)[:, None] + column[None, :]
        tl.store(written, stored(values, PRECISION, UP), mask=real[:, None] & (column < wide)[None, :])
