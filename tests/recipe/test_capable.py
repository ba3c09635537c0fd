"""What of the global model a device can hold: its leading units, or its leading blocks; whose capability counts."""

from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.engine.reference import ReferenceExecutor
from fedlps.models import chain
from fedlps.recipe import capability, exits
from fedlps.recipe.capable import CapableModels, on_leading_units
from fedlps.trace import derive
from tests.engine.cases import samples
from tests.recipe.federations import SHAPE, federation, round_of

LEVELS = {"capability.levels": [1.0, 0.5, 0.25]}


def test_the_leading_units() -> None:
    """Of four units two: their rows, biases, and the columns that read them; the output's biases."""
    fed = federation()
    part = on_leading_units(fed, torch.arange(1, 36).double(), 0.5)
    kept = [*range(8), 16, 17, 20, 21, 24, 25, 28, 29, 32, 33, 34]
    assert (part.nonzero()[:, 0]).tolist() == kept
    assert torch.equal(part[kept], torch.tensor(kept).double() + 1)


def test_each_client_is_tested_with_what_its_device_holds() -> None:
    """Of the round's capabilities; a narrow model answers otherwise than the whole one."""
    fed = federation(LEVELS)
    differs = False
    for number in range(8):
        parameters = torch.randn(35, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        speeds = capability.speeds(fed.config, number)
        own = []
        for client, speed in enumerate(speeds.tolist()):
            model = on_leading_units(fed, parameters, speed)
            images = fed.split.client(client).test
            inputs, labels = fed.executor.executor.batch(images, "test")
            answers = fed.executor.executor.forward(model, inputs)[0].argmax(1)
            own.append(float((answers == labels).double().mean()))
        got = CapableModels().test(fed, number, parameters)
        assert got["test_capable"] == pytest.approx(100 * numpy.mean(own))
        differs |= got["test_capable"] != got["test_global"]
    assert differs


def test_equal_devices_hold_everything() -> None:
    fed = federation({"capability.levels": [1.0]})
    got = CapableModels().test(fed, 0, round_of(fed).global_parameters)
    assert got["test_capable"] == got["test_global"]
    assert len(fed.executor.asked) == 1


def test_the_leading_blocks() -> None:
    """Beyond the depth there are no answers: the mean over the others has the same largest class."""
    steps = [["flatten"], ["linear", 6], ["relu"], ["linear", 5], ["relu"], ["linear", 3]]
    module = chain(SHAPE, steps)
    module = exits.with_exits(module, derive(module, SHAPE))
    program = derive(module, SHAPE)
    data = samples(SHAPE, 3, 40)
    executor = ReferenceExecutor(program, module, data, dtype=torch.float64)
    fed = replace(federation(), program=program, executor=executor)
    parameters = torch.randn(program.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    depth = exits.depth_of(program, 0.5)
    assert 1 <= depth < exits.depths(program)
    part = exits.within_depth(fed, parameters, 0.5)
    inputs, _ = executor.batch(numpy.arange(40), "test")
    wanted = torch.stack(executor.forward(parameters, inputs)[:depth]).mean(0).argmax(1)
    assert torch.equal(torch.stack(executor.forward(part, inputs)).mean(0).argmax(1), wanted)
    assert not torch.equal(torch.stack(executor.forward(parameters, inputs)).mean(0).argmax(1), wanted)
