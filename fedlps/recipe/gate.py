"""A gate that only what has learned passes: accuracy on a client's own validation samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch

from fedlps.cost import row_weights
from fedlps.engine.result import Submodels, whole
from fedlps.recipe.federation import Federation, Floats

PUBLISHED = {"cifar10": 0.45, "cifar100": 0.25, "tinyimagenet": 0.06}
OTHERWISE = 0.5


def published_threshold(data: str) -> float:
    """The accuracy that the published scripts ask for on a data set; on any other that of MNIST."""
    return PUBLISHED.get(data, OTHERWISE)


def validation_accuracies(federation: Federation, clients: Sequence[int], models: Sequence[torch.Tensor]) -> Floats:
    """(n,) accuracy of each full-width model (P,) on its client's validation samples; 0 for a client without any."""
    own = [federation.split.client(client).validate for client in clients]
    accuracies = numpy.zeros(len(clients))
    some = [position for position, samples in enumerate(own) if len(samples)]
    if some:
        rows = [whole(federation.program, models[position]) for position in some]
        stacked = Submodels(
            torch.cat([row.kept for row in rows]),
            torch.cat([row.counts for row in rows]),
            torch.cat([row.parameters for row in rows]),
        )
        accuracies[some] = federation.executor.evaluate(
            stacked, [own[position] for position in some], "train"
        ).accuracies()
    return accuracies


def validation_flops(federation: Federation, client: int) -> int:
    """Executed operations of one forward pass of the whole model over a client's validation samples."""
    program = federation.program
    weights = row_weights(program, federation.all_counts)
    forward = sum(2 * layer.positions * own for layer, own in zip(program.layers, weights, strict=True))
    return forward * len(federation.split.client(client).validate)
