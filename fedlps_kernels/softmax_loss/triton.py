"""The launch of the loss kernel, on arenas: nothing is allocated or read back."""

import torch

from fedlps_kernels import launching
from fedlps_kernels.arena import Arena
from fedlps_kernels.softmax_loss import kernels
from fedlps_kernels.tuning import LOSS_ENTRIES, LOSS_WARPS, TAUGHT_ENTRIES, Precision


def loss_block(classes: int, taught: bool) -> dict[str, int]:
    """Samples and (a power of two of at least 16) classes that a program holds at once."""
    columns = max(1 << (classes - 1).bit_length(), 16)
    return {"BLOCK_ROWS": max((TAUGHT_ENTRIES if taught else LOSS_ENTRIES) // columns, 1), "BLOCK_COLUMNS": columns}


def forward_backward(
    logits: Arena,
    labels: torch.Tensor,
    samples: torch.Tensor,
    classes: int,
    losses: torch.Tensor,
    hits: torch.Tensor,
    gradient: Arena | None = None,
    teacher: Arena | None = None,
    *,
    precision: Precision,
    programs: int | None = None,
) -> None:
    """Writes each client's mean loss, (C,) float32, its hits, (C,) int32, and, if wanted, the gradient of the mean.

    logits, gradient: arenas of one position; the leading `classes` channels count. labels: (C, B) int32 in
    [0, classes). Of equal logits the lower class is chosen. A client without samples gets 0 and 0. teacher: logits, as
    wide, whose softmax is the loss's target instead of the label.
    """
    launching.check(precision, logits=logits.data)
    clients = len(losses)
    kernels.softmax_loss[(max(clients if programs is None else programs, 1),)](
        logits.data,
        logits.offsets,
        logits.channels,
        labels,
        None if teacher is None else teacher.data,
        None if teacher is None else teacher.offsets,
        None if gradient is None else gradient.data,
        None if gradient is None else gradient.offsets,
        losses,
        hits,
        samples,
        clients,
        labels.shape[1],
        classes,
        PRECISION=precision,
        UP=launching.interpreted(),
        **loss_block(classes, teacher is not None),
        num_warps=LOSS_WARPS,
        num_stages=1,
    )
