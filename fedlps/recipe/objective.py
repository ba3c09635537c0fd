"""What a client minimises, and how: the jobs of a round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import truediv

import torch

from fedlps.engine.plan import Hold, Job, Plan, Pull, Segment
from fedlps.program import Program
from fedlps.recipe.federation import Federation, Round

SCALED_CLIP = (
    "largest norm of a scaled step's gradient, unless clip says one; 0: none. Without a norm layer the factors of all "
    "layers multiply: training then diverges at the usual rates, and the published codes clip too, at 1 or 5"
)
"""What `scaled` needs to be told, as a parameter of a method."""

Objective = Callable[[Federation, Round, tuple[Hold, ...]], Plan]
Start = Callable[[Federation, Round, int], torch.Tensor]
Pulls = Callable[[Federation, Round], tuple[Pull, ...]]


def cross_entropy(pulls: Pulls | None = None, start: Start | None = None) -> Objective:
    """Mean cross entropy by SGD over all the client's batches, plus pulls towards reference vectors.

    start: the vector (P,) that each client starts from, by its position; by default the global parameters.
    """

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        towards = pulls(federation, round_) if pulls else ()
        return Plan(
            tuple(
                Job(
                    client,
                    hold,
                    (sgd(federation, round_),),
                    start=start(federation, round_, client) if start else None,
                    pulls=towards,
                )
                for client, hold in enumerate(holds)
            )
        )

    return plan


def scaled(objective: Objective, clip: float) -> Objective:
    """While training, the outputs of thinned layers are multiplied by all units over kept ones, before their norm.

    clip: the largest norm of a step's gradient where that changes anything and `clip` of the configuration sets none;
    0: none. A norm takes the factors out again; without one those of all layers multiply in the gradients: on the
    preset digits at a ratio of 1/4 the first gradient's norm is 28, of the whole model's 2.5, and with rate 0.1 clients
    diverge from the first rounds on. HeteroFL's and FedRolex's published codes clip at 1, the FedLPS code's FedRolex
    at 5.
    """

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        inner = objective(federation, round_, holds)
        return replace(inner, jobs=tuple(_scaled(federation, job, clip) for job in inner.jobs))

    return plan


def _scaled(federation: Federation, job: Job, clip: float) -> Job:
    factors = tuple(map(truediv, federation.all_counts, job.hold.counts))
    if all(factor == 1 for factor in factors):
        return job
    return replace(
        job, scale=factors, segments=tuple(replace(segment, clip=segment.clip or clip) for segment in job.segments)
    )


def sgd(federation: Federation, round_: Round) -> Segment:
    """All the client's batches under the configured optimiser; a method that differs replaces fields of it."""
    config = federation.config
    return Segment(round_.lr, config.momentum, config.weight_decay, config.clip)


def pull(program: Program, received: torch.Tensor, mu: float, norm: str) -> Pull:
    """The gradient of mu * L_pr (7): the squared distance to received (P,), over all P (`mean`) or plain (`sum`)."""
    return Pull(2 * mu / program.size if norm == "mean" else 2 * mu, received)


def towards_received(mu: float, norm: str) -> Pulls:
    """L_pr with weight mu; none at all where mu is 0."""

    def pulls(federation: Federation, round_: Round) -> tuple[Pull, ...]:
        return (pull(federation.program, round_.global_parameters, mu, norm),) if mu else ()

    return pulls
