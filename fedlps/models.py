"""The model zoo: ordinary torch modules, built from the data's shape."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fedlps.errors import InputError

ModelStep = Sequence[Any]
Builder = Callable[..., nn.Module]

VGG_CHANNELS = (64, 128, 256, 512, 512)


def chain(input_shape: Sequence[int], steps: Iterable[ModelStep]) -> nn.Sequential:
    """A sequential model from a list of steps.

    input_shape: (channels, height, width) of a sample. steps: ["conv", out, kernel, stride, padding], ["linear", out],
    ["norm"], ["relu"], ["maxpool", k], ["avgpool", k], ["flatten"]; inputs are sized from what stands before.
    """
    modules: list[nn.Module] = []
    sample = torch.zeros((2, *input_shape))
    for step in steps:
        modules.append(_module(step, tuple(sample.shape)))
        with torch.no_grad():
            sample = modules[-1](sample)
    return nn.Sequential(*modules)


def _module(step: ModelStep, shape: tuple[int, ...]) -> nn.Module:
    match list(step):
        case ["conv", int(rows), int(kernel), int(stride), int(padding)]:
            return nn.Conv2d(shape[1], rows, kernel, stride, padding)
        case ["linear", int(rows)]:
            return nn.Linear(shape[1], rows)
        case ["norm"]:
            return nn.BatchNorm2d(shape[1], track_running_stats=False)
        case ["relu"]:
            return nn.ReLU()
        case ["maxpool", int(size)]:
            return nn.MaxPool2d(size)
        case ["avgpool", int(size)]:
            return nn.AvgPool2d(size)
        case ["flatten"]:
            return nn.Flatten()
    kinds = "conv, linear, norm, relu, maxpool, avgpool, flatten"
    raise InputError(f"model: step {list(step)} is unknown; allowed: {kinds}")


def mnist_cnn(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The paper's network for MNIST: two 5x5 convolutions and two linear layers (21,840 parameters)."""
    block: tuple[ModelStep, ...] = (["maxpool", 2], ["relu"])
    features: tuple[ModelStep, ...] = (["conv", 10, 5, 1, 0], *block, ["conv", 20, 5, 1, 0], *block)
    return chain(input_shape, [*features, ["flatten"], ["linear", 50], ["relu"], ["linear", classes]])


def digits_cnn(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two padded 3x3 convolutions and two linear layers, for 8x8 images."""
    block: tuple[ModelStep, ...] = (["maxpool", 2], ["relu"])
    features: tuple[ModelStep, ...] = (["conv", 16, 3, 1, 1], *block, ["conv", 32, 3, 1, 1], *block)
    return chain(input_shape, [*features, ["flatten"], ["linear", 64], ["relu"], ["linear", classes]])


def mlp(input_shape: tuple[int, ...], classes: int, hidden: Sequence[int] = (200, 100)) -> nn.Module:
    """Linear layers with ReLU between; `hidden` gives their widths."""
    steps: list[ModelStep] = [step for width in hidden for step in (["linear", int(width)], ["relu"])]
    return chain(input_shape, [["flatten"], *steps, ["linear", classes]])


def vgg(convolutions: Sequence[int], input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Blocks of padded 3x3 convolutions with batch-statistics norm and ReLU, a pool behind each; then one linear layer.

    convolutions: how many each of the five blocks has, of 64, 128, 256, 512 and 512 channels (Simonyan and Zisserman,
    ICLR 2015, table 1: 11 layers are 1 1 2 2 2, 13 are 2 2 2 2 2, 16 are 2 2 3 3 3). The sides of a sample must divide
    by 32. No running averages: a norm uses its batch's own mean and variance, in evaluation too.
    """
    steps: list[ModelStep] = []
    for number, channels in zip(convolutions, VGG_CHANNELS, strict=True):
        block: list[ModelStep] = [["conv", channels, 3, 1, 1], ["norm"], ["relu"]]
        steps += [*block * number, ["maxpool", 2]]
    return chain(input_shape, [*steps, ["flatten"], ["linear", classes]])


def vgg11(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Eight convolutions (9,231,114 parameters for 32x32 colour images of ten classes)."""
    return vgg((1, 1, 2, 2, 2), input_shape, classes)


def vgg13(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Ten convolutions."""
    return vgg((2, 2, 2, 2, 2), input_shape, classes)


def vgg16(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Thirteen convolutions."""
    return vgg((2, 2, 3, 3, 3), input_shape, classes)


ZOO: dict[str, Builder] = {
    "mnist_cnn": mnist_cnn,
    "digits_cnn": digits_cnn,
    "mlp": mlp,
    "vgg11": vgg11,
    "vgg13": vgg13,
    "vgg16": vgg16,
}


def register(name: str, builder: Builder) -> None:
    """Add a model under a name for `model.name`: builder(input_shape, classes, **model.*) -> torch.nn.Module."""
    if name in ZOO:
        raise InputError(f"model.name: {name!r} is already registered")
    ZOO[name] = builder


def build(name: str, input_shape: tuple[int, ...], classes: int, parameters: Mapping[str, object]) -> nn.Module:
    """The named model for samples of a shape. Raises InputError for an unknown name or a parameter it does not take."""
    if name not in ZOO:
        raise InputError(f"model.name: got {name!r}, allowed: {', '.join(sorted(ZOO))}")
    builder = ZOO[name]
    allowed = list(inspect.signature(builder).parameters)[2:]
    for key in parameters:
        if key not in allowed:
            raise InputError(f"model.{key}: {name} has no such parameter; allowed: {', '.join(allowed) or 'none'}")
    try:
        return builder(input_shape, classes, **parameters)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"model.name: {name} cannot be built for samples of shape {input_shape}: {reason}") from error
