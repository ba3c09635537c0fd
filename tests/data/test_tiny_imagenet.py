import builtins
import os
from pathlib import Path

import numpy
import pytest
from numpy.testing import assert_array_equal

from fedlps.data import decoded, load
from fedlps.errors import InputError

Image = pytest.importorskip("PIL.Image")

CLASSES = ("n02", "n01")  # not sorted: the order of wnids.txt counts


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where decoded images go."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fedlps" / "decoded"


def paint(path: Path, seed: int, grey: bool = False, side: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (side, side) if grey else (side, side, 3)
    Image.fromarray(numpy.random.default_rng(seed).integers(0, 256, shape).astype(numpy.uint8)).save(path, "JPEG")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two classes with three training images each, of which one is grey, and three validation images."""
    root = tmp_path / "set"
    for label, name in enumerate(CLASSES):
        for number in range(3):
            paint(root / "train" / name / "images" / f"{name}_{number}.JPEG", 10 * label + number, grey=number == 1)
    for number in range(3):
        paint(root / "val" / "images" / f"val_{number}.JPEG", 100 + number)
    (root / "val" / "val_annotations.txt").write_text(
        "".join(f"val_{number}.JPEG\t{CLASSES[number % 2]}\t0\t0\t9\t9\n" for number in (2, 0, 1))
    )
    (root / "wnids.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def rejected(place: Path, partial: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        load("tiny_imagenet", place, partial)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_reads_classes_in_the_order_of_the_list_and_files_by_name(place: Path) -> None:
    dataset = load("tiny_imagenet", place, partial=True)
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.test.labels.tolist() == [0, 1, 0]
    assert (dataset.classes, dataset.input_shape) == (2, (3, 64, 64))
    with Image.open(place / "train" / "n02" / "images" / "n02_2.JPEG") as image:
        assert_array_equal(dataset.train.images[2], numpy.asarray(image).transpose(2, 0, 1))
    grey = dataset.train.images[1]
    assert_array_equal(grey[0], grey[2])
    assert dataset.extent == "2 of 200 classes, 6 of 100000 training images, 3 of 10000 test images"
    assert dataset.mean.tolist() == dataset.deviation.tolist() == [127.5] * 3


def test_the_folder_of_the_archive_is_found(place: Path) -> None:
    (place.parent / "outer").mkdir()
    place.rename(place.parent / "outer" / "tiny-imagenet-200")
    assert len(load("tiny_imagenet", place.parent / "outer", partial=True).train) == 6


def test_a_part_needs_leave(place: Path) -> None:
    assert "is incomplete: 2 of 200 classes" in rejected(place, partial=False)


def test_images_are_decoded_once(place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    first = load("tiny_imagenet", place, True, lambda *progress: told.append(progress))
    assert told == [("set", 9, 9)]
    monkeypatch.setattr(decoded, "_decode", None)
    second = load("tiny_imagenet", place, True, lambda *progress: told.append(progress))
    assert len(told) == 1
    assert first.fingerprint() == second.fingerprint()
    assert sorted(path.suffix for path in cache.iterdir()) == [".blake2b", ".npy"]


def test_a_changed_image_is_decoded_anew(place: Path) -> None:
    before = load("tiny_imagenet", place, True)
    path = place / "val" / "images" / "val_1.JPEG"
    paint(path, 999)
    os.utime(path, ns=(1, 1))
    after = load("tiny_imagenet", place, True)
    assert_array_equal(after.train.images, before.train.images)
    assert (after.test.images[1] != before.test.images[1]).any()


def test_a_damaged_cache_is_made_anew(place: Path, cache: Path) -> None:
    before = load("tiny_imagenet", place, True).fingerprint()
    (path,) = cache.glob("*.npy")
    content = bytearray(path.read_bytes())
    for damaged in (content[:-1], content[:50], b"", content[:-1] + bytes([content[-1] ^ 1])):
        path.unlink()  # another inode: the one before may still be mapped
        path.write_bytes(damaged)
        assert load("tiny_imagenet", place, True).fingerprint() == before


def test_a_cache_that_cannot_be_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.parent / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(place.parent / "file"))
    assert "decoded images cannot be written: Not a directory" in rejected(place)


def test_without_pillow(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "PIL":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "needs Pillow, which is not installed: pip install 'fedlps[images]'" in rejected(place)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def edit(old: str, new: str):
    return lambda path: path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train/n01/images/n01_2.JPEG", cut, "n01_2.JPEG: is no readable image: "),
        ("train/n01/images/n01_2.JPEG", lambda path: path.write_text("x"), "n01_2.JPEG: is no readable image: "),
        ("val/images/val_0.JPEG", lambda path: paint(path, 0, side=32), "val_0.JPEG: is 32 x 32, expected 64 x 64"),
        ("val/images/val_0.JPEG", Path.unlink, "val_0.JPEG: is listed in val/val_annotations.txt, but is not there"),
        ("val/images/val_7.JPEG", lambda path: paint(path, 0), "val_7.JPEG: is not listed in val/val_annotations.txt"),
        ("train/n03/images/a.JPEG", lambda path: paint(path, 0), "train/n03: is a class that wnids.txt does not list"),
        ("wnids.txt", edit("n01", "n01\nn09"), "train/n09/images: no such directory"),
        ("wnids.txt", edit("n01", "n01\nn01"), "wnids.txt: got 3 classes, expected different ones"),
        ("wnids.txt", Path.unlink, "data set tiny_imagenet: wnids.txt not found in "),
        ("wnids.txt", lambda path: path.write_bytes(b"\xff"), "wnids.txt: cannot be read: "),
        ("val/val_annotations.txt", edit("n01", "n05"), "line 3: class 'n05' is none of wnids.txt"),
        ("val/val_annotations.txt", edit("val_2", "val_0"), "line 2: val_0.JPEG is listed twice"),
    ],
)
def test_what_is_wrong_is_named(place: Path, cache: Path, name: str, change, message: str) -> None:
    change(place / name)
    assert message in rejected(place)
    assert not cache.exists() or not list(cache.iterdir())
