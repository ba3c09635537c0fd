"""A pack: one file with just those images of a data set that one split uses, and the labels of all.

safetensors with the labels, the used images' indices and the images without loss (`fedlps.data.lossless`); its metadata
says what split it is for, and a BLAKE2b digest covers everything.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedlps.data import lossless
from fedlps.data.dataset import Dataset, Samples
from fedlps.errors import InputError

FORMAT = "fedlps pack 1"
PARTS = ("train", "test")
Arrays = dict[str, NDArray[numpy.generic]]
Facts = dict[str, str]


def encode(
    dataset: Dataset, used: Mapping[str, NDArray[numpy.int64]], preset: str, purpose: Mapping[str, object]
) -> bytes:
    """The bytes of a pack.

    used: for `train` and `test` the indices of the images to keep. preset: told to whoever uses it for another run.
    purpose: the values of the configuration's keys that the split comes from; `decode` wants the same.
    """
    arrays: Arrays = {"mean": dataset.mean, "deviation": dataset.deviation}
    for part, samples in zip(PARTS, (dataset.train, dataset.test), strict=True):
        kept = numpy.zeros(len(samples), numpy.bool_)
        kept[used[part]] = True
        arrays[f"{part}_labels"] = samples.labels.astype(numpy.int16)
        arrays[f"{part}_kept"] = numpy.packbits(kept)
        arrays[f"{part}_images"] = numpy.frombuffer(lossless.encode(samples.images[kept]), numpy.uint8)
    facts = {
        "format": FORMAT,
        "name": dataset.name,
        "preset": preset,
        "purpose": json.dumps(purpose, sort_keys=True),
        "shape": json.dumps(dataset.input_shape),
        "classes": str(dataset.classes),
        "extent": dataset.extent,
    }
    return bytes(save(arrays, {**facts, "digest": _digest(arrays, facts)}))


def decode(path: Path, purpose: Mapping[str, object] | None = None) -> Dataset:
    """The data set in a pack; images that the split does not use are black.

    purpose: see `encode`; None takes any. InputError: no pack, damaged, or of another purpose.
    """
    arrays, facts = _read(path)
    if purpose is not None:
        _check_purpose(path, facts, purpose)
    try:
        return _dataset(arrays, facts)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: is no pack made by `fedlps data pack`: {error}") from error


def describe(path: Path) -> str:
    """What a pack holds, in one line; everything in it is checked. InputError as `decode`."""
    dataset = decode(path)
    arrays, facts = _read(path)
    values = json.loads(facts["purpose"])
    train, test = (int(numpy.unpackbits(arrays[f"{part}_kept"].astype(numpy.uint8)).sum()) for part in PARTS)
    channels, height, width = dataset.input_shape
    return (
        f"{path.name}: {path.stat().st_size} bytes, pack of preset {facts['preset']} ({dataset.name}), "
        f"seed {values['seed']}, {values['clients']} clients: {train} training and {test} test images of "
        f"{channels} x {height} x {width}; its digest holds"
    )


def _dataset(arrays: Arrays, facts: Facts) -> Dataset:
    channels, height, width = json.loads(facts["shape"])
    found = {}
    for part in PARTS:
        labels = arrays[f"{part}_labels"].astype(numpy.int64)
        kept = numpy.unpackbits(arrays[f"{part}_kept"].astype(numpy.uint8), count=len(labels)).astype(numpy.bool_)
        images = numpy.zeros((len(labels), channels, height, width), numpy.uint8)
        content = arrays[f"{part}_images"].tobytes()
        images[kept] = lossless.decode(content, (int(kept.sum()), channels, height, width))
        found[part] = Samples(images, labels)
    mean, deviation = arrays["mean"].astype(numpy.float64), arrays["deviation"].astype(numpy.float64)
    name, classes = facts["name"], int(facts["classes"])
    return Dataset(name, found["train"], found["test"], classes, mean, deviation, facts["extent"])


def _read(path: Path) -> tuple[Arrays, Facts]:
    try:
        with safe_open(path, framework="numpy") as file:
            facts: Facts = dict(file.metadata() or {})
            arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise InputError(f"{path}: is no pack made by `fedlps data pack`, or is cut short: {error}") from error
    if facts.get("format") != FORMAT:
        raise InputError(f"{path}: is no pack made by `fedlps data pack` of this version")
    if facts.pop("digest", "") != _digest(arrays, facts):
        raise InputError(f"{path}: is damaged: its digest is not that of its content; make it anew")
    return arrays, facts


def _digest(arrays: Arrays, facts: Facts) -> str:
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    for name, values in sorted(arrays.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(numpy.ascontiguousarray(values).data)
    return digest.hexdigest()


def _check_purpose(path: Path, facts: Facts, purpose: Mapping[str, object]) -> None:
    packed, wanted = json.loads(facts["purpose"]), json.loads(json.dumps(purpose))
    for key in sorted({*packed, *wanted}, key=lambda key: (key != "data.name", key)):
        if packed.get(key) != wanted.get(key):
            raise InputError(
                f"data.root: {path} is a pack of preset {facts['preset']} with {key}={packed.get(key)}, but the run "
                f"has {key}={wanted.get(key)}; make its own with `fedlps data pack`"
            )
