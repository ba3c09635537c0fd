"""From a request to a run: everything is checked before anything is created, then the rounds are played."""

from __future__ import annotations

import hashlib
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy
import torch
from pydantic import ValidationError
from torch import nn

from fedlps import __version__, data, models
from fedlps.engine import executors
from fedlps.engine.cuda import presence
from fedlps.errors import InputError
from fedlps.interruption import InterruptedTraining, Interruption
from fedlps.methods import METHODS
from fedlps.program import Program
from fedlps.recipe import Method
from fedlps.recipe.federation import Federation
from fedlps.run.config import Config
from fedlps.run.directory import check_directory, make_directory
from fedlps.run.record import to_yaml
from fedlps.run.resolve import Overrides, merge_for_resume, resolve
from fedlps.run.store import RunStore, read_record
from fedlps.run.values import show, unknown
from fedlps.samples import dataset_of, split_of
from fedlps.simulation import DivergedError, RoundCallback, Simulation
from fedlps.stream_check import streams_reproduce
from fedlps.trace import derive
from fedlps_kernels import native

OWN_MODEL = "own"  # model.name of a module given by the caller
IDENTITY = ("data", "model")  # what a resumed run must share with the run it goes on with


@dataclass(frozen=True)
class Run:
    """A run that has ended: finished, or stopped by a signal and ready to be resumed.

    metrics: `round` (int64, from 1) and every metric of the specification's section 9 (float64, NaN where not
    evaluated).
    """

    directory: Path
    config: Config
    metrics: dict[str, numpy.ndarray]
    notes: tuple[str, ...]
    stopped_by: int | None  # signal number; None: all rounds are done


class Session:
    """A run that is ready to be played. A context manager that holds the run's files.

    notes: lines for the user; the first says what of the data is there if not all, which executor trains, and why.
    """

    def __init__(self, simulation: Simulation, store: RunStore, notes: list[str]) -> None:
        self.config = simulation.federation.config
        self.directory = store.directory
        self.notes = tuple(notes)
        self._simulation = simulation
        self._store = store

    @property
    def rounds_done(self) -> int:
        """Rounds completed so far."""
        return self._store.rounds

    def play(self, on_round: RoundCallback | None = None) -> Run:
        """Play the rounds that are left. SIGINT and SIGTERM end it with a checkpoint.

        Raises DivergedError, after a checkpoint of the round before, if every client of a round diverges, and
        InputError if the system refuses to write; then the last checkpoint stands.
        """
        interruption = Interruption()
        simulation = self._simulation
        with interruption.listening():
            try:
                simulation.run(on_round or (lambda number, metrics: None), interruption)
            except (InterruptedTraining, DivergedError) as end:
                self._store.checkpoint()
                if isinstance(end, DivergedError):
                    raise
        if self._store.rounds == self.config.rounds:
            self._store.write_model(_by_name(simulation.federation.program, simulation.parameters))
        stopped = None if self._store.rounds == self.config.rounds else interruption.signal
        return Run(self.directory, self.config, self._store.metrics(), self.notes, stopped)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()


def prepare(
    preset: str = "digits",
    *,
    method: str = "fedlps",
    out: Path | str | None = None,
    overrides: Overrides = (),
    resume: bool = False,
    overwrite: bool = False,
    model: nn.Module | None = None,
    command: str | None = None,
    progress: data.Progress | None = None,
) -> Session:
    """Check everything, then make or open the directory. Nothing is created if something is wrong.

    out: the directory of the run; None: runs/<preset>-<method>-seed<n>, with -2, -3, ... if taken. With resume, preset
    and method are those of the run. model: a module of the caller's own instead of `model.name`. command: for
    run.yaml, which keeps the first. progress: told of slow work on the data's files. Raises InputError, one line.
    """
    directory = Path(out) if out is not None else None
    check_directory(directory, resume=resume, overwrite=overwrite)
    if resume and directory is not None:
        record = read_record(directory)
        config = merge_for_resume(record.config, overrides)
    else:
        record = None
        config = _resolve(preset, method, overrides, model)
    executors.check(_request(config))
    dataset = dataset_of(config, progress)
    split = split_of(config, dataset)
    module = _module(config, model, dataset)
    program = derive(module, dataset.input_shape)
    chosen = _method(config)
    if chosen.adapt is not None:
        module = chosen.adapt(module, program)
        program = derive(module, dataset.input_shape)
    if program.classes < dataset.classes:
        raise InputError(f"model: has {program.classes} outputs, but {dataset.name} has {dataset.classes} classes")
    executor, why = executors.choose(_request(config), program, module, data.SampleStore(dataset))
    versions = _versions(dataset, program, module)
    if executor.name == "cuda":
        versions["gpu"] = presence.hardware()
    difference = streams_reproduce()
    notes = [f"{dataset.name} in part, {dataset.extent}; {why}" if dataset.extent else why]
    notes += [f"such a run cannot be resumed exactly: {difference}"] if difference else []
    if record is not None:
        if difference:
            raise InputError(f"--resume: the random streams are not those the run was started with: {difference}")
        notes += _check_resumable(record.versions, versions, record.config, config)
    if record is not None and directory is not None:
        text = to_yaml(config, versions, record.command)
        store = RunStore.open(directory)
    else:
        text = to_yaml(config, versions, command or shlex.join(sys.argv))
        name = f"{preset}-{config.method.name}-seed{config.seed}"
        store = RunStore.create(make_directory(directory, name, overwrite=overwrite), text)
    try:
        federation = Federation(config, program, split, executor, store, torch.float32)
        simulation = Simulation(federation, chosen, store)  # reads what is stored, which may be damaged
        if record is not None:
            store.write_record(text)
    except BaseException:
        store.close()
        raise
    return Session(simulation, store, notes)


def run(
    preset: str = "digits",
    *,
    method: str = "fedlps",
    out: Path | str | None = None,
    overrides: Overrides = (),
    resume: bool = False,
    overwrite: bool = False,
    model: nn.Module | None = None,
    on_round: RoundCallback | None = None,
) -> Run:
    """Run a simulation from Python; the same as `fedlps run` (see `prepare` for the arguments).

    on_round: called after every round with its number (from 1) and its metrics.
    """
    with prepare(
        preset, method=method, out=out, overrides=overrides, resume=resume, overwrite=overwrite, model=model
    ) as session:
        return session.play(on_round)


def _resolve(preset: str, method: str, overrides: Overrides, model: nn.Module | None) -> Config:
    parameters = {name: recipe.parameters for name, recipe in METHODS.items()}
    if model is None:
        return resolve(preset, overrides, method, parameters, models.ZOO)
    name = f"model.name={OWN_MODEL}"
    given = {**overrides, "model.name": OWN_MODEL} if isinstance(overrides, Mapping) else [*overrides, name]
    return resolve(preset, given, method, parameters, (*models.ZOO, OWN_MODEL))


def _method(config: Config) -> Method:
    """The method's parts. A stored configuration may name a method or parameters that this version does not have."""
    if config.method.name not in METHODS:
        raise unknown("method.name", config.method.name, METHODS)
    recipe = METHODS[config.method.name]
    try:
        parameters = recipe.parameters.model_validate(config.method.parameters)
    except ValidationError:
        raise InputError(f"method: {recipe.name} does not take {show(config.method.parameters)}") from None
    return recipe.build(parameters, config)


def _request(config: Config) -> executors.Request:
    threads = None if config.threads == "all" else config.threads
    memory = None if config.memory == "auto" else config.memory
    wanted = (config.executor, config.device, config.precision, config.evaluation.batch)
    return executors.Request(*wanted, threads, memory, config.batch)


def _module(config: Config, model: nn.Module | None, dataset: data.Dataset) -> nn.Module:
    if config.model.name == OWN_MODEL:
        if model is None:
            raise InputError("model: the run trains a module of its own; resume it with fedlps.run(..., model=...)")
        return model
    if model is not None:
        raise InputError(f"model: got a module, but the run to resume trains {config.model.name}")
    return models.build(config.model.name, dataset.input_shape, dataset.classes, config.model.parameters)


def _versions(dataset: data.Dataset, program: Program, module: nn.Module) -> dict[str, str]:
    """What decides the bits of a run beside its configuration."""
    return {
        "fedlps": __version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": str(torch.__version__),
        "instructions": native.isa() or "none",
        "data": dataset.fingerprint(),
        "model": _fingerprint(program, module),
    }


def _fingerprint(program: Program, module: nn.Module) -> str:
    """BLAKE2b (hex) of the layers, the shapes and, where it is no chain, what else the module tells of itself."""
    digest = hashlib.blake2b(repr((program.layers, program.parameters, program.steps)).encode(), digest_size=16)
    if program.obstacle is not None:
        digest.update(str(module).encode())
    for name, values in program.plain.items():
        digest.update(name.encode())
        digest.update(numpy.ascontiguousarray(values).data)
    return digest.hexdigest()


def _check_resumable(
    stored: Mapping[str, str], versions: Mapping[str, str], before: Config, config: Config
) -> list[str]:
    """Notes on what may change bits. Raises InputError where the run would not be the same run."""
    for name in IDENTITY:
        if stored.get(name) != versions[name]:
            raise InputError(f"{name}: differs from the one the run was started with, so it cannot be resumed")
    notes = [
        f"resuming under {name} {version}, started under {stored.get(name, 'unknown')}: bits may differ"
        for name, version in versions.items()
        if stored.get(name) != version
    ]
    return notes + [
        f"resuming with {key}={getattr(config, key)}, started with {getattr(before, key)}: bits may differ"
        for key in ("executor", "device")
        if getattr(config, key) != getattr(before, key)
    ]


def _by_name(program: Program, parameters: torch.Tensor) -> dict[str, numpy.ndarray]:
    flat = parameters.numpy()
    return {
        entry.name: flat[entry.offset : entry.offset + entry.size].reshape(entry.shape) for entry in program.parameters
    }
