"""Bytes that the engine normalizes itself, against values that the store has normalized."""

import numpy
import pytest
import torch

from fedlps.data import Dataset, SampleStore
from fedlps.data.dataset import Samples
from fedlps.engine.cpu import CpuExecutor
from fedlps.engine.result import whole
from fedlps.models import mnist_cnn
from fedlps.program import initial_parameters
from fedlps.trace import derive
from tests.engine.cases import Arrays
from tests.engine.engines import each_isa, needs_engine

pytestmark = needs_engine
SHAPE, COUNT = (1, 28, 28), 40


def store(dtype: type) -> SampleStore:
    rng = numpy.random.default_rng(0)
    both = Samples(rng.integers(256, size=(COUNT, *SHAPE)).astype(numpy.uint8), rng.integers(10, size=COUNT))
    return SampleStore(Dataset("bytes", both, both, 10, numpy.array([33.318]), numpy.array([78.567])), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("slope", [1, 2])
def test_bytes_become_what_the_table_says(dtype: torch.dtype, slope: float) -> None:
    """To the last bit; a slope that gives something else is not used."""
    program = derive(mnist_cnn(SHAPE, 10), SHAPE)
    held = store(torch.empty(0, dtype=dtype).numpy().dtype.type)
    held.line = held.line * slope
    values = Arrays(*held.batch(numpy.arange(COUNT)))
    models = whole(program, torch.from_numpy(initial_parameters(program, 0)).to(dtype))
    for _ in each_isa():
        bytes_, numbers = (
            CpuExecutor(program, samples, dtype=dtype).evaluate(models, [numpy.arange(COUNT)], "test")
            for samples in (held, values)
        )
        assert bytes_.losses.tolist() == numbers.losses.tolist()
