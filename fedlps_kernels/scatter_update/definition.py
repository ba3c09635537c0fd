"""The SGD step on kept entries, in plain torch."""

import torch

from fedlps_kernels.layout import Layout


def scatter_update(
    parameters: torch.Tensor,
    gradient: torch.Tensor,
    anchor: torch.Tensor,
    kept: torch.Tensor,
    counts: torch.Tensor,
    layout: Layout,
    *,
    lr: float,
    pull: float,
    weight_decay: float,
    clip: float,
    momentum: float,
    velocity: torch.Tensor | None = None,
) -> None:
    """Spec section 4, step 3, in place. parameters, velocity: (C, P); gradient: (C, N); anchor: (P,)."""
    for client, (units, numbers) in enumerate(zip(kept, counts, strict=True)):
        entries = layout.entries(units, numbers).to(parameters.device)
        w = parameters[client, entries]
        q = gradient[client, : len(entries)] + pull * (w - anchor[entries])
        if clip > 0:
            q = q * (clip / (torch.linalg.vector_norm(q) + 1e-6)).clamp(max=1)
        q = q + weight_decay * w
        if velocity is not None:
            q = momentum * velocity[client, entries] + q
            velocity[client, entries] = q
        parameters[client, entries] = w - lr * q
