import numpy
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fedlps.data import SampleStore
from tests.data.test_dataset import make


@pytest.mark.parametrize("dtype", [numpy.float32, numpy.float64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("part", ["train", "test"])
def test_batch_is_normalized_and_in_order(dtype: type, channels: int, part: str) -> None:
    dataset = make(train=40, test=30, channels=channels)
    samples = getattr(dataset, part)
    indices = numpy.array([7, 0, 29, 7])
    inputs, labels = SampleStore(dataset, dtype).batch(indices, part)
    assert inputs.dtype == dtype
    assert inputs.flags.c_contiguous
    assert inputs.flags.writeable
    assert_array_equal(labels, samples.labels[indices])
    raw = samples.images[indices].astype(numpy.float64)
    expected = (raw - dataset.mean[:, None, None]) / dataset.deviation[:, None, None]
    assert_array_equal(inputs, expected.astype(dtype))


def test_default_is_float32_of_the_training_part() -> None:
    dataset = make()
    inputs, _ = SampleStore(dataset).batch(numpy.arange(6))
    assert inputs.dtype == numpy.float32
    assert_allclose(inputs.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    assert_allclose(inputs.std(axis=(0, 2, 3)), 1, atol=1e-6)


def test_index_past_the_end_is_an_error() -> None:
    with pytest.raises(IndexError):
        SampleStore(make(train=6)).batch(numpy.array([6]))


def test_empty_batch() -> None:
    inputs, labels = SampleStore(make()).batch(numpy.empty(0, numpy.int64))
    assert inputs.shape == (0, 2, 3, 5)
    assert labels.shape == (0,)
