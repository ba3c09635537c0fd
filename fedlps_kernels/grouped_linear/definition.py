"""A linear layer per client, in plain torch."""

import torch


def grouped_linear(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    bias: torch.Tensor | None,
    samples: torch.Tensor,
    columns: torch.Tensor,
    rows: torch.Tensor,
) -> torch.Tensor:
    """inputs: (C, N, I); weights: (C, O, I); bias: (C, O) or None; counts: (C,). Returns (C, N, O), zeros beyond."""
    outputs = inputs.new_zeros(*inputs.shape[:2], weights.shape[1])
    for client, (n, i, o) in enumerate(torch.stack([samples, columns, rows], dim=1).tolist()):
        outputs[client, :n, :o] = inputs[client, :n, :i] @ weights[client, :o, :i].T
        if bias is not None:
            outputs[client, :n, :o] += bias[client, :o]
    return outputs
