import dataclasses

import numpy
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fedlps.data import Dataset, Samples, load, statistics
from fedlps.errors import InputError
from fedlps.randomness import stream


def make(train: int = 6, test: int = 4, channels: int = 2, classes: int = 3) -> Dataset:
    rng = numpy.random.default_rng(1)

    def part(count: int) -> Samples:
        images = rng.integers(0, 256, (count, channels, 3, 5)).astype(numpy.uint8)
        return Samples(images, numpy.arange(count) % classes)

    train_part = part(train)
    return Dataset("made", train_part, part(test), classes, *statistics(train_part.images))


def test_statistics_are_those_of_numpy() -> None:
    images = numpy.random.default_rng(2).integers(0, 256, (5000, 3, 2, 2)).astype(numpy.uint8)
    mean, deviation = statistics(images)
    assert mean.dtype == deviation.dtype == numpy.float64
    assert_allclose(mean, images.astype(numpy.float64).mean(axis=(0, 2, 3)), rtol=1e-13)
    assert_allclose(deviation, images.astype(numpy.float64).std(axis=(0, 2, 3)), rtol=1e-13)


def test_deviation_of_equal_values_is_one() -> None:
    mean, deviation = statistics(numpy.full((3, 1, 2, 2), 7, numpy.uint8))
    assert mean.tolist() == [7.0]
    assert deviation.tolist() == [1.0]


def test_fingerprint_is_a_function_of_the_values() -> None:
    assert make().fingerprint() == make().fingerprint()
    transposed = make()
    images = numpy.asfortranarray(transposed.train.images)
    assert dataclasses.replace(transposed, train=Samples(images, transposed.train.labels)).fingerprint() == (
        make().fingerprint()
    )


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("array", ["images", "labels"])
def test_fingerprint_sees_every_array(part: str, array: str) -> None:
    dataset = make()
    before = dataset.fingerprint()
    values = getattr(getattr(dataset, part), array)
    values[-1] = 2 - values[-1] if array == "labels" else values[-1] ^ 1
    changed = dataset.fingerprint()
    assert (changed != before) == (array == "images" or values[-1] != 1)


def test_fingerprint_sees_normalization_classes_and_shape() -> None:
    dataset = make()
    reshaped = Samples(dataset.train.images.reshape(6, 2, 5, 3), dataset.train.labels)
    test = Samples(dataset.test.images.reshape(4, 2, 5, 3), dataset.test.labels)
    variants = [
        dataset,
        dataclasses.replace(dataset, mean=dataset.mean + 1),
        dataclasses.replace(dataset, deviation=dataset.deviation + 1),
        dataclasses.replace(dataset, classes=4),
        dataclasses.replace(dataset, train=reshaped, test=test),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (numpy.zeros((2, 1, 3, 3)), numpy.zeros(2, numpy.int64), r"images: got float64 \[2, 1, 3, 3\]"),
        (numpy.zeros((2, 3, 3), numpy.uint8), numpy.zeros(2, numpy.int64), r"images: got uint8 \[2, 3, 3\]"),
        (numpy.zeros((0, 1, 3, 3), numpy.uint8), numpy.zeros(0, numpy.int64), "not empty"),
        (numpy.zeros((2, 1, 3, 3), numpy.uint8), numpy.zeros(3, numpy.int64), r"labels: got int64 \[3\]"),
        (numpy.zeros((2, 1, 3, 3), numpy.uint8), numpy.zeros(2, numpy.int32), r"labels: got int32 \[2\]"),
    ],
)
def test_samples_reject(images: numpy.ndarray, labels: numpy.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Samples(images, labels)


def test_dataset_rejects_what_does_not_fit_together() -> None:
    dataset = make()
    with pytest.raises(InputError, match="training labels are 0 to 2, allowed 0 to 1"):
        dataclasses.replace(dataset, classes=2)
    with pytest.raises(InputError, match=r"training images are \[2, 3, 5\], test images \[2, 5, 3\]"):
        dataclasses.replace(dataset, test=Samples(dataset.test.images.reshape(4, 2, 5, 3), dataset.test.labels))
    with pytest.raises(InputError, match="one value for each of 2 channels"):
        dataclasses.replace(dataset, mean=numpy.zeros(1))
    with pytest.raises(InputError, match="deviations above 0"):
        dataclasses.replace(dataset, deviation=numpy.array([1.0, 0.0]))


def test_digits() -> None:
    from sklearn.datasets import load_digits

    digits = load("digits")
    assert digits.input_shape == (1, 8, 8)
    assert (len(digits.train), len(digits.test), digits.classes) == (1437, 360, 10)
    bunch = load_digits()
    order = stream(0, 0).permutation(1797)
    images = numpy.concatenate([digits.train.images, digits.test.images])
    assert_array_equal(images[:, 0], bunch.images[order])
    assert_array_equal(numpy.concatenate([digits.train.labels, digits.test.labels]), bunch.target[order])
    assert_allclose(digits.mean, digits.train.images.astype(numpy.float64).mean(), rtol=1e-14)
    assert_allclose(digits.deviation, digits.train.images.astype(numpy.float64).std(), rtol=1e-14)
