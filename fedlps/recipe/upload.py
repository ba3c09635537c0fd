"""Which entries of a trained model travel back to the server, and what that weighs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedlps.engine.result import LocalResult, Submodels
from fedlps.recipe.federation import Federation, Round
from fedlps_kernels import gather_weights


@dataclass(frozen=True)
class HeldEntries:
    """The held entries of w^r - w_E [(12)]. pattern_sent: which units they are goes along, one bit each."""

    pattern_sent: bool = False

    def residuals(self, federation: Federation, round_: Round, result: LocalResult) -> Submodels:
        """Compact residuals on the units kept after the last step: (C, N)."""
        trained = result.submodels
        received = gather_weights(
            round_.global_parameters[None], trained.kept, trained.counts, federation.layout, trained.parameters.shape[1]
        )
        return Submodels(trained.kept, trained.counts, torch.sub(received, trained.parameters))
