"""Softmax cross entropy, in plain torch."""

import torch
from torch.nn.functional import cross_entropy, one_hot


def softmax_loss(
    logits: torch.Tensor, labels: torch.Tensor, samples: torch.Tensor, teacher: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """logits: (C, N, classes); labels: (C, N) integers; samples: (C,). Per client, over its leading samples.

    Returns the mean loss (C,), how many samples' largest logit (the first of equal ones) is the label's (C,) int32,
    and the mean's gradient, (C, N, classes), zeros beyond; without samples a client has 0 and 0. teacher: (C, N,
    classes), logits whose softmax is the loss's target instead of the label.
    """
    losses, hits = logits.new_zeros(len(logits)), samples.new_zeros(len(logits), dtype=torch.int32)
    gradient = torch.zeros_like(logits)
    for client, n in enumerate(samples.tolist()):
        if n:
            own, wanted = logits[client, :n], labels[client, :n].long()
            hits[client] = (own.argmax(dim=1) == wanted).sum()
            target = wanted if teacher is None else teacher[client, :n].softmax(dim=1)
            losses[client] = cross_entropy(own, target)
            shares = one_hot(wanted, own.shape[1]) if teacher is None else target
            gradient[client, :n] = (own.softmax(dim=1) - shares) / n
    return losses, hits, gradient
