"""Real data sets, found through FEDLPS_DATA."""

import os
from pathlib import Path

import numpy
import pytest

from fedlps.data import check, load
from fedlps.data.idx import STEMS, read
from fedlps.errors import InputError

pytestmark = pytest.mark.realdata

TRAINING_IMAGES = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # of each digit


@pytest.fixture(scope="module", autouse=True)
def directory() -> Path:
    place = Path(os.environ.get("FEDLPS_DATA", "")) / "mnist"
    if not place.is_dir():
        pytest.skip("FEDLPS_DATA names no directory that holds mnist")
    return place


def test_mnist() -> None:
    dataset = load("mnist")
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (60000, 10000, 10)
    assert dataset.input_shape == (1, 28, 28)
    assert numpy.bincount(dataset.train.labels).tolist() == TRAINING_IMAGES
    assert abs(dataset.train.images.mean() / 255 - 0.1307) < 5e-5
    assert abs(dataset.train.images.std() / 255 - 0.3081) < 5e-5


def test_every_file_has_its_published_checksum(directory: Path) -> None:
    lines = check(directory)
    assert all("checksum is that of mnist" in line for line in lines[:4])
    assert lines[4].startswith("60000 training and 10000 test images of 28 x 28, 10 classes, 5421 to 6742")


def test_unpacked_files_read_the_same(directory: Path, tmp_path: Path) -> None:
    from tests.data.files import write

    values = {stem: read(directory / f"{stem}.gz") for stem in STEMS}
    write(tmp_path, values, compressed=False)
    assert load("mnist", tmp_path).fingerprint() == load("mnist", directory).fingerprint()


@pytest.mark.parametrize(
    ("name", "counts", "classes", "means"),
    [
        ("cifar10", (20000, 10000), 10, (0.4928, 0.4830, 0.4470)),
        ("cifar100", (5000, 2000), 100, (0.5107, 0.4926, 0.4451)),
        ("tiny_imagenet", (200, 100), 20, (0.4936, 0.4538, 0.3789)),
    ],
)
def test_the_colour_sets_are_there_in_part(
    name: str,
    counts: tuple[int, int],
    classes: int,
    means: tuple[float, float, float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"data\.partial=true"):
        load(name)
    dataset = load(name, partial=True)
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (*counts, classes)
    assert dataset.extent
    numpy.testing.assert_allclose(dataset.train.images.mean(axis=(0, 2, 3)) / 255, means, atol=5e-5)
    per_class = numpy.bincount(dataset.train.labels)
    assert per_class.min() >= (1925 if name == "cifar10" else counts[0] // classes)
