"""Softmax cross entropy. Triton code, launched by `triton.py` beside it."""

import triton.language as tl

from fedlps_kernels.rounding import kernel, padded, stored


@kernel
def softmax_loss(
    logits,
    offsets,
    channels,
    labels,  # (clients, room)
    teacher,  # logits in place of labels, or None
    teacher_offsets,
    gradient,  # None where only the losses are wanted
    gradient_offsets,
    losses,
    hits,
    samples,
    clients,
    room,
    classes,
    PRECISION: tl.constexpr,
    UP: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """A client per program and turn, its samples in order: the sum of losses is the same on every grid."""
    column = tl.arange(0, BLOCK_COLUMNS)
    for client in range(tl.program_id(0), clients, tl.num_programs(0)):
        count = tl.load(samples + client)
        wide = padded(tl.load(channels + client))
        read = logits + tl.multiple_of(tl.load(offsets + client), 16)
        share = 1 / tl.maximum(count, 1).to(tl.float32)
        loss, right = 0.0, 0
        for first in range(0, count, BLOCK_ROWS):
            row = first + tl.arange(0, BLOCK_ROWS)
            place = (row.to(tl.int64) * wide)[:, None] + column[None, :]
            real = row < count
            inside = (column < classes)[None, :]
            values = tl.load(read + place, mask=real[:, None] & inside, other=0.0).to(tl.float32)
            values = tl.where(inside, values, float("-inf"))
            label = tl.load(labels + tl.cast(client, tl.int64) * room + row, mask=real, other=0)
            largest = tl.max(values, axis=1)
            chosen = tl.min(tl.where(values == largest[:, None], column[None, :], BLOCK_COLUMNS), axis=1)
            apart = values - largest[:, None]
            powers = tl.exp(apart)
            total = tl.sum(powers, axis=1)
            hit = column[None, :] == label[:, None]
            if teacher is None:
                own = tl.sum(tl.where(hit, apart, 0.0), axis=1)
            else:
                heard = teacher + tl.multiple_of(tl.load(teacher_offsets + client), 16) + place
                taught = tl.load(heard, mask=real[:, None] & inside, other=0.0).to(tl.float32)
                taught = tl.where(inside, taught, float("-inf"))
                taught = tl.exp(taught - tl.max(taught, axis=1)[:, None])
                target = taught / tl.sum(taught, axis=1)[:, None]
                own = tl.sum(target * tl.where(inside, apart, 0.0), axis=1)
            loss += tl.sum(tl.where(real, tl.log(total) - own, 0.0), axis=0)
            right += tl.sum((real & (chosen == label)).to(tl.int32), axis=0)
            if gradient is not None:
                away = powers / total[:, None] - (tl.where(hit, 1.0, 0.0) if teacher is None else target)
                slope = away * share
                slope = tl.where(inside, slope, 0.0)
                written = gradient + tl.multiple_of(tl.load(gradient_offsets + client), 16) + place
                tl.store(written, stored(slope, PRECISION, UP), mask=real[:, None] & (column < wide)[None, :])
        tl.store(losses + client, loss * share)
        tl.store(hits + client, right)
