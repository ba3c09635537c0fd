"""A method is a choice of parts; those it does not name are the defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from fedlps.program import Program
from fedlps.recipe import aggregation, delivery, download, objective, upload
from fedlps.recipe.accounting import Accounting
from fedlps.recipe.aggregation import Aggregation
from fedlps.recipe.delivery import Delivery
from fedlps.recipe.download import Download
from fedlps.recipe.evaluation import Evaluation, GlobalModel
from fedlps.recipe.federation import Federation, Outcome
from fedlps.recipe.objective import Objective
from fedlps.recipe.ratio import Fixed, Ratio
from fedlps.recipe.selection import Selection, Uniform
from fedlps.recipe.state import Kept
from fedlps.recipe.upload import Upload
from fedlps.run.config import Config


class Parameters(BaseModel):
    """A method's own parameters, under `method.*`; every field carries a description."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Prologue = Callable[[Federation, torch.Tensor], torch.Tensor]
"""What the server does before round 1, from the initial parameters (P,): the parameters that round 1 starts from."""


Measure = Callable[[Federation, Outcome, torch.Tensor], dict[str, float]]
"""Metrics of a method's own, after a round, with the new global parameters (P,)."""

Duration = Callable[[Federation, Outcome], float]
"""Simulated seconds that a round takes."""


def slowest(federation: Federation, outcome: Outcome) -> float:
    """A round lasts until its slowest client is done [(18)]."""
    return max(cost.seconds for cost in outcome.costs)


Adapt = Callable[[nn.Module, Program], nn.Module]
"""The module that a method trains instead of a given one, or the given one. InputError if it can use neither."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One algorithm. The parts in the order a round uses them."""

    selection: Selection = field(default_factory=Uniform)
    ratio: Ratio = field(default_factory=Fixed)
    download: Download = field(default_factory=download.dense)
    objective: Objective = field(default_factory=objective.cross_entropy)
    upload: Upload = field(default_factory=upload.held_entries)
    delivery: Delivery = field(default_factory=delivery.random_loss)
    aggregation: Aggregation = field(default_factory=lambda: aggregation.residuals("residual"))
    state: tuple[Kept, ...] = ()
    evaluation: Evaluation = field(default_factory=GlobalModel)
    accounting: Accounting = field(default_factory=Accounting)
    duration: Duration = slowest
    measure: Measure | None = None
    prologue: Prologue | None = None
    adapt: Adapt | None = None


AnyParameters = TypeVar("AnyParameters", bound=Parameters)


@dataclass(frozen=True)
class Recipe:
    """A registered method: what it is, its parameters, and how its parts come from them."""

    name: str
    paper: str  # first paragraph of the file's docstring and the reference after it
    parameters: type[Parameters]
    build: Callable[[Parameters, Config], Method]
    baseline: bool = False  # whether what others cost is told relative to it


REGISTRY: dict[str, Recipe] = {}


def register(
    name: str, parameters: type[AnyParameters], paper: str | None, *, baseline: bool = False
) -> Callable[[Callable[[AnyParameters, Config], Method]], Callable[[AnyParameters, Config], Method]]:
    """Make a builder known under a method's name. paper: the docstring of its file."""

    def add(builder: Callable[[AnyParameters, Config], Method]) -> Callable[[AnyParameters, Config], Method]:
        def build(values: Parameters, config: Config) -> Method:
            return builder(parameters.model_validate(values.model_dump(by_alias=True)), config)

        REGISTRY[name] = Recipe(name, (paper or "").strip(), parameters, build, baseline)
        return builder

    return add
