"""FedDyn: clients are pulled to where their own past updates point, and the server leads the mean by all of them.

Acar, Zhao, Matas Navarro, Mattina, Whatmough, Saligrama. ICLR 2021. https://arxiv.org/abs/2111.04263
"""

from __future__ import annotations

from dataclasses import replace

import torch

from fedlps.engine.plan import Hold, Job, Plan, Pull
from fedlps.recipe.aggregation import Aggregation
from fedlps.recipe.federation import Federation, Outcome, Round
from fedlps.recipe.objective import Objective
from fedlps.recipe.upload import Uploads

VARIATE = "variate"  # the client's part of the store, h_k, and the server's tensor h: (P,)


def dynamic(inner: Objective, alpha: float) -> Objective:
    """The same jobs with the loss - <h_k, w> + alpha / 2 |w - w^r|^2: a pull to w^r + h_k / alpha."""

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        def pulled(job: Job) -> Job:
            variate = _of_client(federation, int(round_.clients[job.client]))
            return replace(job, pulls=(*job.pulls, Pull(alpha, round_.global_parameters + variate / alpha)))

        given = inner(federation, round_, holds)
        return replace(given, jobs=tuple(map(pulled, given.jobs)))

    return plan


def led(mean: Aggregation, alpha: float) -> Aggregation:
    """The mean less h / alpha, where h <- h - alpha (share of all clients that hold an entry) (mean - w^r).

    Each client's h_k <- h_k - alpha (w_k - w^r). What nobody holds stays as it is.
    """

    def aggregate(federation: Federation, outcome: Outcome, uploads: Uploads) -> torch.Tensor:
        received = outcome.round.global_parameters
        average, holders = mean(federation, outcome, uploads), torch.zeros_like(received)
        models = uploads.residuals
        for row, position in enumerate(uploads.positions):
            entries = uploads.layout.entries(models.kept[row], models.counts[row])
            holders[entries] += 1
            client = int(outcome.round.clients[position])
            variate = _of_client(federation, client)
            variate[entries] += alpha * models.parameters[row, : len(entries)]
            federation.store.put_client(client, VARIATE, {"h": variate.numpy()})
        stored = federation.store.get_tensor(VARIATE)
        variate = torch.zeros_like(received) if stored is None else torch.from_numpy(stored)
        variate = variate - alpha * holders / federation.config.clients * (average - received)
        federation.store.put_tensor(VARIATE, variate.numpy())
        return torch.where(holders > 0, average - variate / alpha, received)

    return aggregate


def _of_client(federation: Federation, client: int) -> torch.Tensor:
    """h_k (P,); 0 before the first participation."""
    stored = federation.store.get_client(client, VARIATE)
    if stored is None:
        return torch.zeros(federation.program.size, dtype=federation.dtype)
    return torch.from_numpy(stored["h"]).clone()
