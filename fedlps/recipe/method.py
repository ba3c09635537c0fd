"""A method is a choice of parts; those it does not name are the defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from fedlps.recipe import aggregation, delivery, download, objective, selection
from fedlps.recipe.aggregation import Aggregation
from fedlps.recipe.delivery import Delivery
from fedlps.recipe.download import Download
from fedlps.recipe.evaluation import Evaluation
from fedlps.recipe.objective import Objective
from fedlps.recipe.ratio import Fixed, Ratio
from fedlps.recipe.selection import Selection
from fedlps.recipe.state import Kept
from fedlps.recipe.upload import HeldEntries
from fedlps.run.config import Config


class Parameters(BaseModel):
    """A method's own parameters, under `method.*`; every field carries a description."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Method:
    """One algorithm. The parts in the order a round uses them."""

    selection: Selection = field(default_factory=selection.uniform)
    ratio: Ratio = field(default_factory=Fixed)
    download: Download = field(default_factory=download.dense)
    objective: Objective = field(default_factory=objective.cross_entropy)
    upload: HeldEntries = field(default_factory=HeldEntries)
    delivery: Delivery = field(default_factory=delivery.random_loss)
    aggregation: Aggregation = field(default_factory=lambda: aggregation.residuals("residual"))
    state: tuple[Kept, ...] = ()
    evaluation: Evaluation = field(default_factory=Evaluation)


AnyParameters = TypeVar("AnyParameters", bound=Parameters)


@dataclass(frozen=True)
class Recipe:
    """A registered method: what it is, its parameters, and how its parts come from them."""

    name: str
    paper: str  # first paragraph of the file's docstring and the reference after it
    parameters: type[Parameters]
    build: Callable[[Parameters, Config], Method]


REGISTRY: dict[str, Recipe] = {}


def register(
    name: str, parameters: type[AnyParameters], paper: str | None
) -> Callable[[Callable[[AnyParameters, Config], Method]], Callable[[AnyParameters, Config], Method]]:
    """Make a builder known under a method's name. paper: the docstring of its file."""

    def add(builder: Callable[[AnyParameters, Config], Method]) -> Callable[[AnyParameters, Config], Method]:
        def build(values: Parameters, config: Config) -> Method:
            return builder(parameters.model_validate(values.model_dump()), config)

        REGISTRY[name] = Recipe(name, (paper or "").strip(), parameters, build)
        return builder

    return add
