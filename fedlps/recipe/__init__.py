"""The parts a method is made of, one file per part, and the Method that names one of each."""

from fedlps.recipe import (
    accounting,
    aggregation,
    delivery,
    download,
    evaluation,
    objective,
    ratio,
    selection,
    state,
    upload,
)
from fedlps.recipe.method import REGISTRY, Method, Parameters, Recipe, register

__all__ = [
    "REGISTRY",
    "Method",
    "Parameters",
    "Recipe",
    "accounting",
    "aggregation",
    "delivery",
    "download",
    "evaluation",
    "objective",
    "ratio",
    "register",
    "selection",
    "state",
    "upload",
]
