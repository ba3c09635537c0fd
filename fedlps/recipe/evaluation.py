"""Which models are tested after a round, on every client's own test samples (section 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy
import torch

from fedlps.engine.cohort import Indices
from fedlps.engine.result import Submodels, whole
from fedlps.recipe.federation import Federation, Floats, Outcome
from fedlps_kernels import untouched

PERSONAL = ("last", "best")
MODELS, MODELS_BYTES = 64, 256 << 20  # in memory at once, at most


class Evaluation(Protocol):
    """Remembers models while a run goes on, and tests what the method would deploy."""

    def remember(self, federation: Federation, outcome: Outcome) -> None:
        """Keep what a round leaves to be tested."""
        ...

    def test(self, federation: Federation, number: int, global_parameters: torch.Tensor) -> dict[str, float]:
        """Mean accuracy over all clients in percent, after the round of this number (from 0): test_global and, of
        methods with personal models, test_last and test_best.
        """
        ...


@dataclass(frozen=True)
class GlobalModel:
    """The full-width global model on every client's test samples."""

    def remember(self, federation: Federation, outcome: Outcome) -> None:
        """Nothing: the global model is at hand."""

    def test(self, federation: Federation, number: int, global_parameters: torch.Tensor) -> dict[str, float]:
        """test_global."""
        return {"test_global": 100 * float(global_accuracies(federation, global_parameters).mean())}


@dataclass(frozen=True)
class ComposedModels:
    """Besides the global model, one that each client composes of it and its own state, as test_last.

    compose: the client's full-width parameters (P,) from the global ones and the number of the round, from 0.
    """

    compose: Callable[[Federation, int, torch.Tensor, int], torch.Tensor]

    def remember(self, federation: Federation, outcome: Outcome) -> None:
        """Nothing: what is composed lies in the client's state."""

    def test(self, federation: Federation, number: int, global_parameters: torch.Tensor) -> dict[str, float]:
        """test_global and test_last."""
        overall = global_accuracies(federation, global_parameters)
        own = []
        for client in range(federation.config.clients):
            model = whole(federation.program, self.compose(federation, client, global_parameters, number))
            test = federation.split.client(client).test
            own.append(federation.executor.evaluate(model, [test], "test").accuracies()[0])
        return {"test_global": 100 * float(overall.mean()), "test_last": 100 * float(numpy.mean(own))}


def trained_models(outcome: Outcome) -> Submodels:
    """What came of the clients' training."""
    return outcome.result.submodels


@dataclass(frozen=True)
class PersonalModels:
    """Tests the global model and each client's `last` and `best` personal model.

    A personal model is the submodel that `models` takes of a participation that counts; `best` is that of the highest
    validation accuracy, the later one if equal. Both lie in the store under their names, that accuracy of every client
    as `validation_best`; a model is run again only if it changed.
    """

    models: Callable[[Outcome], Submodels] = trained_models

    def remember(self, federation: Federation, outcome: Outcome) -> None:
        """Keep the personal models of a round."""
        trained = self.models(outcome)
        counted = [int(position) for position in numpy.flatnonzero(outcome.counted)]
        clients = [int(outcome.round.clients[position]) for position in counted]
        validation = [federation.split.client(client).validate for client in clients]
        alive = trained.rows(counted)
        accuracies = federation.executor.evaluate(alive, validation, "train").accuracies()
        stale = {name: _of_clients(federation, f"tested_{name}") for name in PERSONAL}
        highest = _of_clients(federation, "validation_best")
        sizes = federation.layout.compact_sizes(trained.counts).tolist()
        for position, client, accuracy in zip(counted, clients, accuracies, strict=True):
            model = _pack(trained, position, sizes[position])
            federation.store.put_client(client, "last", model)
            stale["last"][client] = numpy.nan
            if highest[client] < 0 or accuracy >= highest[client]:
                federation.store.put_client(client, "best", model)
                highest[client] = accuracy
                stale["best"][client] = numpy.nan
        federation.store.put_tensor("validation_best", highest)
        for name, tested in stale.items():
            federation.store.put_tensor(f"tested_{name}", tested)

    def test(self, federation: Federation, number: int, global_parameters: torch.Tensor) -> dict[str, float]:
        """test_global, test_last and test_best; a client without a personal model is tested with the global one."""
        overall = global_accuracies(federation, global_parameters)
        metrics = {"test_global": 100 * float(overall.mean())}
        for name in PERSONAL:
            tested = self._personal(federation, name)
            metrics[f"test_{name}"] = 100 * float(numpy.where(tested < 0, overall, tested).mean())
        return metrics

    def _personal(self, federation: Federation, name: str) -> Floats:
        """(K,) accuracy of each client's personal model, -1 where there is none.

        NaN in the store marks a changed one.
        """
        tested = _of_clients(federation, f"tested_{name}")
        for clients, models in _stored(federation, numpy.flatnonzero(numpy.isnan(tested)).tolist(), name):
            samples: list[Indices] = [federation.split.client(client).test for client in clients]
            tested[clients] = federation.executor.evaluate(models, samples, "test").accuracies()
        federation.store.put_tensor(f"tested_{name}", tested)
        return tested


def _of_clients(federation: Federation, name: str) -> Floats:
    """(K,) a value of every client, -1 where there is none yet."""
    stored = federation.store.get_tensor(name)
    return numpy.full(federation.config.clients, -1.0) if stored is None else stored.copy()


def global_accuracies(federation: Federation, parameters: torch.Tensor, clients: Indices | None = None) -> Floats:
    """Accuracy of the full-width parameters (P,) on the test samples of each of these clients, by default of all.

    Every distinct image runs once.
    """
    model = whole(federation.program, parameters)
    if federation.program.batch_statistics:
        # A batch-statistics norm sees the batch, so a client's samples must be run together, in their order.
        asked = range(federation.config.clients) if clients is None else clients.tolist()
        own = [federation.split.client(client).test for client in asked]
        return federation.executor.evaluate(model.repeated(len(own)), own, "test").accuracies()
    samples = federation.test_samples
    means = samples.means(federation.executor.evaluate(model, [samples.distinct], "test").hits[0])
    return means if clients is None else means[clients]


def _pack(models: Submodels, row: int, size: int) -> dict[str, numpy.ndarray]:
    return {
        "kept": models.kept[row].numpy(),
        "counts": models.counts[row].numpy(),
        "parameters": models.parameters[row, :size].numpy(),
    }


def _stored(federation: Federation, clients: Iterable[int], name: str) -> Iterator[tuple[list[int], Submodels]]:
    """Personal models of these clients, in groups that fit into memory together."""
    waiting: dict[int, dict[str, numpy.ndarray]] = {}
    for client in clients:
        if (record := federation.store.get_client(client, name)) is None:
            continue
        held = sum(other["parameters"].nbytes for other in waiting.values())
        if waiting and (len(waiting) == MODELS or held + record["parameters"].nbytes > MODELS_BYTES):
            yield list(waiting), _unpack(federation, list(waiting.values()))
            waiting = {}
        waiting[client] = record
    if waiting:
        yield list(waiting), _unpack(federation, list(waiting.values()))


def _unpack(federation: Federation, records: list[dict[str, numpy.ndarray]]) -> Submodels:
    sizes = [len(record["parameters"]) for record in records]
    parameters = untouched.zeros(len(records), max(sizes, default=0), federation.dtype)
    for row, record in zip(parameters, records, strict=True):
        row[: len(record["parameters"])] = torch.from_numpy(record["parameters"])
    kept = torch.from_numpy(numpy.stack([record["kept"] for record in records]))
    counts = torch.from_numpy(numpy.stack([record["counts"] for record in records]))
    return Submodels(kept, counts, parameters)
