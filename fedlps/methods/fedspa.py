"""FedSpa: each client trains a sparse mask of its own, as large for all, and moves it after training.

Huang, Liu, Shen, He, Lin, Tao. 2022. https://arxiv.org/abs/2201.11380
"""

import torch
from pydantic import Field

from fedlps.randomness import Purpose, stream
from fedlps.recipe import (
    Method,
    Parameters,
    accounting,
    aggregation,
    counts,
    drop_grow,
    evaluation,
    personal_mask,
    register,
    weight_masks,
)
from fedlps.recipe.federation import Federation
from fedlps.run.config import Config

NUMBER = 18  # of the method's streams


class FedSpaParameters(Parameters):
    """How sparse, and how mobile."""

    density: float = Field(0.5, gt=0, le=1, description="share of the maskable weights that a client keeps")
    rate: float = Field(0.5, ge=0, le=1, description="share of them dropped and grown in round 1, falling to 0")
    uniform_density: bool = Field(False, description="the same density in every layer, not Erdos-Renyi kernel ones")


@register("fedspa", FedSpaParameters, __doc__)
def fedspa(parameters: FedSpaParameters, config: Config) -> Method:
    """Masks are drawn per client at first; the server adds the mean of what changed inside them."""

    def first(federation: Federation, client: int) -> torch.Tensor:
        program, places = federation.program, weight_masks.maskable(federation.program)
        densities = [parameters.density] * len(places)
        if not parameters.uniform_density:
            densities = drop_grow.kernel_densities(program, parameters.density)
        generator = stream(config.seed, Purpose.METHOD + NUMBER, 0, 0, client)
        return drop_grow.drawn_mask(program.size, places, densities, generator)

    return Method(
        download=personal_mask.held(first),
        objective=drop_grow.dropped_and_grown(first, parameters.rate),
        aggregation=aggregation.residuals("uniform"),
        state=(personal_mask.ENDED,),
        evaluation=evaluation.ComposedModels(personal_mask.composed(first)),
        accounting=accounting.Accounting(
            up=personal_mask.sent_bytes(first, always=True), down=personal_mask.received_bytes(first)
        ),
        measure=counts.sparse_kernels(),
    )
