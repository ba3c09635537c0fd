"""Dense tensors into arenas, and back. Triton code, launched by `triton.py` beside it."""

import triton.language as tl

from fedlps_kernels.rounding import kernel, padded, stored


@kernel
def pack(
    dense,  # (clients, room, channels, positions)
    packed,
    offsets,
    samples,
    counts,
    clients,
    room,
    channels,
    positions,
    BACK: tl.constexpr,
    PRECISION: tl.constexpr,
    UP: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """One direction or (BACK) the other; what the target has beyond a client's counts becomes zero."""
    down, across = tl.cdiv(room * positions, BLOCK_ROWS), tl.cdiv(channels, BLOCK_COLUMNS)
    for tile in range(tl.program_id(0), clients * down * across, tl.num_programs(0)):
        client = tile // (down * across)
        row = tile // across % down * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        column = tile % across * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        sample, count = row // positions, tl.load(counts + client)
        wide = padded(count)
        own = (sample < tl.load(samples + client))[:, None]
        real = own & (column < count)[None, :]
        far = (tl.cast(client, tl.int64) * room + sample)[:, None] * channels + column[None, :]
        far = dense + far * positions + (row % positions)[:, None]
        near = packed + tl.load(offsets + client)
        near += (row.to(tl.int64) * wide)[:, None] + column[None, :]
        if BACK:
            values = tl.load(near, mask=real, other=0.0).to(tl.float32)
            tl.store(far, values, mask=(sample < room)[:, None] & (column < channels)[None, :])
        else:
            values = tl.load(far, mask=real, other=0.0)
            tl.store(near, stored(values, PRECISION, UP), mask=own & (column < wide)[None, :])
