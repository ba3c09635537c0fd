"""A model of one number b, whose loss is (b - target)^2 / 2: what the sections of methods compute by hand."""

from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.engine.training import Training
from fedlps.methods import METHODS
from fedlps.models import chain
from fedlps.recipe import Method
from fedlps.recipe.federation import Federation
from tests.engine.cases import Arrays, cohort_of, executor_of
from tests.recipe.federations import federation, round_of

SHAPE = (1, 1, 1)


def quadratic(
    monkeypatch: pytest.MonkeyPatch, name: str, target: float, **parameters: object
) -> tuple[Federation, Method]:
    """A federation that trains b, and the method. The model's input is 0: b is its output."""
    data = Arrays(numpy.zeros((40, *SHAPE)), numpy.zeros(40, dtype=numpy.int64))
    fed = federation({"momentum": 0, "weight_decay": 0}, method=name)
    program, executor = executor_of(chain(SHAPE, [["flatten"], ["linear", 1]]), SHAPE, data)
    monkeypatch.setattr(Training, "_loss", lambda self, outputs, targets: ((outputs[-1] - target) ** 2).mean() / 2)
    recipe = METHODS[name]
    return replace(fed, program=program, executor=executor), recipe.build(recipe.parameters(**parameters), fed.config)


def moved(fed: Federation, method: Method, received: float, *, lr: float, steps: int = 1) -> list[float]:
    """What b is after so many steps of client 0, per job."""
    round_ = replace(round_of(fed, clients=[0], parameters=torch.tensor([0, received]).double()), lr=lr)
    plan = method.objective(fed, round_, method.download(fed, round_))
    result = fed.executor.train(round_.global_parameters, plan, cohort_of([[0, 1]] * steps))
    return result.submodels.parameters[:, 1].tolist()
