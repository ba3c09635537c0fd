"""The data that a configuration names: the data set, its split among the clients, and packs of what a split uses."""

from pathlib import Path

import numpy

from fedlps import data
from fedlps.data import pack
from fedlps.errors import InputError
from fedlps.methods import METHODS
from fedlps.models import ZOO
from fedlps.run.config import Config
from fedlps.run.files import write_atomically
from fedlps.run.resolve import Overrides, resolve, values_of
from fedlps.run.values import Value


def dataset_of(config: Config, progress: data.Progress | None = None) -> data.Dataset:
    """The data set. progress: told of slow work on its files.

    InputError: missing, incomplete or damaged files; a pack that is for another split.
    """
    root = config.data.root
    if root is not None and Path(root).expanduser().is_file():
        return pack.decode(Path(root).expanduser(), purpose(config))
    return data.load(config.data.name, root, config.data.partial, progress)


def split_of(config: Config, dataset: data.Dataset) -> data.Split:
    """The samples of every client. InputError, with the numbers, where there are too few."""
    arguments = {
        key: value
        for key, value in config.split.model_dump().items()
        if key not in ("kind", "test_per_class") and value is not None
    }
    return data.Split(
        dataset.train.labels,
        dataset.test.labels,
        dataset.classes,
        config.split.kind,
        arguments,
        config.clients,
        config.split.test_per_class,
        config.seed,
        config.data.share,
    )


def purpose(config: Config) -> dict[str, Value]:
    """The values that decide which samples a run uses."""
    return {
        key: value
        for key, value in values_of(config).items()
        if key in ("seed", "clients") or (key.startswith(("data.", "split.")) and key != "data.root")
    }


def write_pack(preset: str, overrides: Overrides, path: Path, progress: data.Progress | None = None) -> str:
    """Write the images that a preset's split uses, under these overrides, to a new file; what it holds, in one line.

    InputError: as from a run's configuration and data, the file exists, or it cannot be written.
    """
    if path.exists():
        raise InputError(f"--out: {path} exists; choose another FILE")
    method = next(iter(METHODS))  # which method trains on it changes nothing
    config = resolve(preset, overrides, method, {method: METHODS[method].parameters}, ZOO)
    dataset = dataset_of(config, progress)
    split = split_of(config, dataset)
    clients = [split.client(client) for client in range(config.clients)]
    used = {
        "train": numpy.unique(numpy.concatenate([part for own in clients for part in (own.train, own.validate)])),
        "test": numpy.unique(numpy.concatenate([own.test for own in clients])),
    }
    write_atomically(path, pack.encode(dataset, used, preset, purpose(config)))
    return pack.describe(path)
