"""Drawn chains: any window, stride and padding, pools before or after ReLU or none, norms, layers without bias."""

import math

from hypothesis import strategies as st
from torch import nn

# around what registers hold: 4, 8 and 16 lanes, tiles of 5 and 10 units
UNITS = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 16, 17, 21, 33])
SOMETIMES = st.sampled_from([False, False, True])
ORDERS = st.sampled_from(["", "relu", "pool", "pool relu", "relu pool", "pool relu pool", "relu relu"])
MOST_FEATURES = 700  # into a linear layer, so that a drawn model stays small

Shape = tuple[int, ...]


@st.composite
def chains(draw: st.DrawFn, norms: bool = True) -> tuple[nn.Sequential, Shape]:
    """A module and the shape of a sample: images of unequal sides, or plain vectors. norms: behind some layers."""
    if draw(st.integers(0, 4)) == 0:
        shape: Shape = (draw(st.integers(1, 20)),)
    else:
        shape = (draw(st.integers(1, 3)), draw(st.integers(1, 13)), draw(st.integers(1, 13)))
    modules: list[nn.Module] = []
    current = _features(draw, modules, shape, norms) if len(shape) == 3 else shape
    convolutions = any(isinstance(module, nn.Conv2d) for module in modules)
    if convolutions and 2 <= current[0] <= 8 and draw(st.booleans()):
        return nn.Sequential(*modules), shape  # the classes are positions and channels of the last convolution
    for _ in range(draw(st.integers(0, 2))):
        units = draw(UNITS)
        modules.append(nn.Linear(current[0], units, bias=draw(st.booleans())))
        if norms and draw(SOMETIMES):
            modules.append(nn.BatchNorm1d(units, track_running_stats=False))
        modules += [nn.ReLU()] * draw(st.integers(0, 1))
        current = (units,)
    modules.append(nn.Linear(current[0], draw(st.integers(2, 11)), bias=draw(st.booleans())))
    return nn.Sequential(*modules, *[nn.ReLU()] * (draw(st.integers(0, 9)) == 0)), shape


def _features(draw: st.DrawFn, modules: list[nn.Module], shape: Shape, norms: bool) -> Shape:
    """Up to three convolutions and what stands between, then a flatten. Returns the shape behind it."""
    if draw(st.integers(0, 9)) == 0:
        shape = _between(draw, modules, shape)  # of the sample itself
    for _ in range(draw(st.integers(0, 3))):
        padding, stride, units = draw(st.integers(0, 2)), draw(st.integers(1, 3)), draw(UNITS)
        kernel = draw(st.integers(1, min(5, min(shape[1:]) + 2 * padding)))
        modules.append(nn.Conv2d(shape[0], units, kernel, stride, padding, bias=draw(st.booleans())))
        if norms and draw(SOMETIMES):
            modules.append(nn.BatchNorm2d(units, track_running_stats=False))
        shape = (units, *((side + 2 * padding - kernel) // stride + 1 for side in shape[1:]))
        shape = _between(draw, modules, shape)
    while math.prod(shape) > MOST_FEATURES:
        shape = _pooled(draw, modules, shape, 2)
    modules.append(nn.Flatten())
    return (math.prod(shape),)


def _between(draw: st.DrawFn, modules: list[nn.Module], shape: Shape) -> Shape:
    for step in draw(ORDERS).split():
        if step == "pool":
            shape = _pooled(draw, modules, shape, draw(st.integers(1, min(3, *shape[1:]))))
        else:
            modules.append(nn.ReLU())
    return shape


def _pooled(draw: st.DrawFn, modules: list[nn.Module], shape: Shape, window: int) -> Shape:
    """A chain's pooling steps do not overlap; what the last window does not fill is left out."""
    modules.append(draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))(window))
    return (shape[0], *(side // window for side in shape[1:]))
