"""Gathering batches, in plain torch."""

import torch


def gather_batch(
    images: torch.Tensor, table: torch.Tensor, indices: torch.Tensor, samples: torch.Tensor
) -> torch.Tensor:
    """images: (n, channels, H, W) uint8; table: (channels, 256), what bytes become; indices: (C, N); samples: (C,).

    Returns (C, N, channels, H, W) of the table's dtype, zeros beyond a client's samples.
    """
    channels = torch.arange(images.shape[1], device=images.device)[:, None, None]
    batch = table.new_zeros(*indices.shape, *images.shape[1:])
    for client, n in enumerate(samples.tolist()):
        batch[client, :n] = table[channels, images[indices[client, :n]].long()]
    return batch
