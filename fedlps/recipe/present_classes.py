"""Clients that leave out the classes they have no training samples of: such a class's logit is 0, its row stays."""

from __future__ import annotations

from dataclasses import replace

import torch

from fedlps.engine.plan import Hold
from fedlps.recipe.download import Download
from fedlps.recipe.federation import Federation, Round


def without_absent(inner: Download) -> Download:
    """The same holds but for the rows of absent classes in the output layer, which neither train nor travel."""

    def holds(federation: Federation, round_: Round) -> tuple[Hold, ...]:
        return tuple(
            replace(hold, mask=present(federation, int(client)))
            for hold, client in zip(inner(federation, round_), round_.clients, strict=True)
        )

    return holds


def zeroed(federation: Federation, round_: Round, position: int) -> torch.Tensor:
    """A client's start, (P,): the received parameters, 0 in the rows of absent classes, so that their logits are 0."""
    return torch.where(present(federation, int(round_.clients[position])), round_.global_parameters, 0)


def present(federation: Federation, client: int) -> torch.Tensor:
    """(P,) bool: all entries but those of absent classes in the output layer."""
    program = federation.program
    output, mask = program.layers[-1], torch.ones(program.size, dtype=torch.bool)
    rows = torch.zeros(output.rows, dtype=torch.bool)
    rows[torch.from_numpy(federation.split.classes(client))] = True
    mask[output.weight : output.weight + output.rows * output.fan_in] = rows.repeat_interleave(output.fan_in)
    if output.bias is not None:
        mask[output.bias : output.bias + output.rows] = rows
    return mask
