"""Real MNIST, found through FEDLPS_DATA."""

import os
from pathlib import Path

import numpy
import pytest

from fedlps.data import check, load
from fedlps.data.idx import STEMS, read

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
