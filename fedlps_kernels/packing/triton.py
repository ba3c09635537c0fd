"""Launches that pack dense float32 tensors, (C, N, channels, ...), channels innermost and padded, and unpack them.

Activations go into arenas; weights, (C, rows, columns, ...), lie in packs as activations do whose samples are rows.
"""

import torch

from fedlps_kernels import launching
from fedlps_kernels.arena import Arena, arena
from fedlps_kernels.packing import kernels
from fedlps_kernels.tuning import BATCH, DTYPES, Precision


def pack(
    dense: torch.Tensor,
    packed: torch.Tensor,
    offsets: torch.Tensor,
    samples: torch.Tensor,
    counts: torch.Tensor,
    precision: Precision = "fp32",
    *,
    back: bool = False,
) -> None:
    """Writes clients' leading `samples` x `counts` entries from their offsets on; back: from there, zeros beyond."""
    clients, room, channels = dense.shape[:3]
    positions = dense.shape[3:].numel()
    tiles = clients * -(-room * positions // BATCH.rows) * -(-channels // BATCH.columns)
    if tiles == 0:
        return
    kernels.pack[(min(tiles, 2**16),)](
        dense,
        packed,
        offsets,
        samples,
        counts,
        clients,
        room,
        channels,
        positions,
        BACK=back,
        PRECISION=precision,
        UP=launching.interpreted(),
        BLOCK_ROWS=BATCH.rows,
        BLOCK_COLUMNS=BATCH.columns,
        num_warps=BATCH.warps,
        num_stages=BATCH.stages,
    )


def to_arena(dense: torch.Tensor, samples: torch.Tensor, counts: torch.Tensor, precision: Precision) -> Arena:
    """dense: (C, N, channels, height, width) or (C, N, channels). counts: (C,) channels of each client."""
    made = empty_arena(dense.shape, counts, precision)
    pack(dense, made.data, made.offsets, samples, made.channels, precision)
    return made


def empty_arena(shape: torch.Size, counts: torch.Tensor, precision: Precision) -> Arena:
    """An arena for dense tensors of this shape, all zero."""
    maps = shape[3:] if len(shape) == 5 else (1, 1)
    return arena(counts.cpu(), shape[1], maps[0], maps[1], DTYPES[precision], counts.device)


def to_dense(given: Arena, samples: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The entries of an arena as a dense tensor of this shape, zeros beyond the clients' counts."""
    dense = given.data.new_empty(shape, dtype=torch.float32)
    pack(dense, given.data, given.offsets, samples, given.channels, back=True)
    return dense
