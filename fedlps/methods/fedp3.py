"""FedP3: every client contributes some layers, receives the others pruned, and holds the leading units it can afford.

Yi, Gazagnadou, Richtarik, Lyu. ICLR 2024. https://arxiv.org/abs/2404.09816 (algorithm 1)
"""

from typing import Literal

from pydantic import Field

from fedlps.randomness import Purpose
from fedlps.recipe import Method, Parameters, accounting, aggregation, objective, ratio, register, upload
from fedlps.recipe import layer_subsets as subsets
from fedlps.run.config import Config

NUMBER = 19  # of its streams: draw 0 gives the widths of local_pruning=uniform
GROUPS = {"opu3": 3, "opu2": 2, "lower": 1}


class FedP3Parameters(Parameters):
    """Local pruning follows the capability, which the paper leaves to the device."""

    layers: Literal["opu3", "opu2", "lower"] = Field(
        default="opu3", description="groups of hidden layers that a client contributes: 3, 2 or 1 of up to 4"
    )
    server_share: float = Field(default=0.9, gt=0, le=1, description="share of weights left of layers not contributed")
    local_pruning: Literal["ordered", "uniform", "fixed"] = Field(
        default="ordered", description="units held: those of the capability, per step of a random width, or all"
    )
    weighted: bool = Field(default=False, description="clients weigh by how many layers they contribute")
    own_head: bool = Field(default=True, description="the output layer stays with the client")


@register("fedp3", FedP3Parameters, __doc__)
def fedp3(parameters: FedP3Parameters, config: Config) -> Method:
    """What a client receives, sends and keeps goes by layers; what it holds of them by its capability."""
    sliced = parameters.local_pruning != "fixed"
    layers = subsets.LayerSubsets(GROUPS[parameters.layers], parameters.server_share, parameters.own_head, sliced)
    training = objective.cross_entropy(start=layers.start)
    if parameters.local_pruning == "uniform":
        training = subsets.with_random_widths(training, Purpose.METHOD + NUMBER)
    return Method(
        ratio=ratio.Capability() if sliced else ratio.Fixed(),
        download=layers.holds,
        objective=training,
        upload=upload.held_entries(layers.travels),
        aggregation=(
            aggregation.residuals("holders", layers.weight)
            if parameters.weighted
            else aggregation.residuals("uniform_holders")
        ),
        evaluation=layers,
        accounting=accounting.Accounting(up=layers.up, down=layers.down),
        adapt=subsets.needs_hidden,
    )
