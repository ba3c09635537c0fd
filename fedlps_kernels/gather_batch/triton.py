"""The launch of the kernel that gathers batches: nothing is allocated or read back."""

import torch

from fedlps_kernels import launching
from fedlps_kernels.arena import Arena
from fedlps_kernels.gather_batch import kernels
from fedlps_kernels.tuning import BATCH, Precision


def gather(
    images: torch.Tensor,
    table: torch.Tensor,
    indices: torch.Tensor,
    samples: torch.Tensor,
    outputs: Arena,
    *,
    precision: Precision,
    programs: int | None = None,
) -> None:
    """Writes each client's samples, channels innermost, what `table` says of each byte.

    images: (n, channels, H, W) uint8, contiguous. table: (channels, 256) float32. indices: (C, B) int64 in [0, n);
    those beyond a client's samples, (C,) int32, are not read.
    """
    launching.check(precision, outputs=outputs.data)
    clients, room = indices.shape
    tiles = clients * -(-room * outputs.positions // BATCH.rows)
    most = launching.INTERPRETER_PROGRAMS
    if images.is_cuda:
        most = launching.processors(images.device) * BATCH.resident
    kernels.gather_batch[(max(min(most, tiles) if programs is None else programs, 1),)](
        images,
        table,
        indices,
        outputs.data,
        outputs.offsets,
        samples,
        clients,
        room,
        images.shape[1],
        outputs.height,
        outputs.width,
        PRECISION=precision,
        UP=launching.interpreted(),
        BLOCK_ROWS=BATCH.rows,
        BLOCK_COLUMNS=BATCH.columns,
        num_warps=BATCH.warps,
        num_stages=BATCH.stages,
    )
