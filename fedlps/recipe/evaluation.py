"""Which models are tested after a round, on every client's own test samples (section 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
import torch

from fedlps.engine.cohort import Indices
from fedlps.engine.result import Submodels, whole
from fedlps.recipe.federation import Federation, Floats, Outcome

PERSONAL = ("last", "best")
CHUNK = 64  # personal models in memory at once


@dataclass(frozen=True)
class Evaluation:
    """Tests the global model and, with `personal`, each client's `last` and `best` personal model.

    A personal model is the trained submodel of a participation that counts; `best` is that of the highest validation
    accuracy, the later one if equal. Both lie in the store under their names; a model is run again only if it changed.
    """

    personal: bool = False

    def remember(self, federation: Federation, outcome: Outcome) -> None:
        """Keep the personal models of a round."""
        if not self.personal:
            return
        trained = outcome.result.submodels
        counted = [int(position) for position in numpy.flatnonzero(outcome.counted)]
        clients = [int(outcome.round.clients[position]) for position in counted]
        validation = [federation.split.client(client).validate for client in clients]
        accuracies = federation.executor.evaluate(trained[counted], validation, "train").accuracies()
        stale = {name: self._tested(federation, name) for name in PERSONAL}
        for position, client, accuracy in zip(counted, clients, accuracies, strict=True):
            model = _pack(federation, trained, position)
            model["validation"] = numpy.array([accuracy])
            federation.store.put_client(client, "last", model)
            stale["last"][client] = numpy.nan
            best = federation.store.get_client(client, "best")
            if best is None or accuracy >= best["validation"][0]:
                federation.store.put_client(client, "best", model)
                stale["best"][client] = numpy.nan
        for name, tested in stale.items():
            federation.store.put_tensor(f"tested_{name}", tested)

    def test(self, federation: Federation, global_parameters: torch.Tensor) -> dict[str, float]:
        """Mean accuracy over all clients in percent: test_global and, if personal, test_last and test_best."""
        overall = self._global(federation, global_parameters)
        metrics = {"test_global": 100 * float(overall.mean())}
        if self.personal:
            for name in PERSONAL:
                tested = self._personal(federation, name)
                metrics[f"test_{name}"] = 100 * float(numpy.where(tested < 0, overall, tested).mean())
        return metrics

    def _global(self, federation: Federation, parameters: torch.Tensor) -> Floats:
        model = whole(federation.program, parameters)
        if federation.program.batch_statistics:
            # A batch-statistics norm sees the batch, so a client's samples must be run together, in their order.
            split = federation.split
            own = [split.client(client).test for client in range(federation.config.clients)]
            return numpy.array([federation.executor.evaluate(model, [test], "test").accuracies()[0] for test in own])
        samples = federation.test_samples
        return samples.means(federation.executor.evaluate(model, [samples.distinct], "test").hits[0])

    def _personal(self, federation: Federation, name: str) -> Floats:
        """(K,) accuracy of each client's personal model, -1 where there is none.

        NaN in the store marks a changed one.
        """
        tested = self._tested(federation, name)
        changed = numpy.flatnonzero(numpy.isnan(tested))
        for start in range(0, len(changed), CHUNK):
            chunk = changed[start : start + CHUNK]
            models = _unpack(federation, [int(client) for client in chunk], name)
            samples: list[Indices] = [federation.split.client(int(client)).test for client in chunk]
            tested[chunk] = federation.executor.evaluate(models, samples, "test").accuracies()
        federation.store.put_tensor(f"tested_{name}", tested)
        return tested

    def _tested(self, federation: Federation, name: str) -> Floats:
        stored = federation.store.get_tensor(f"tested_{name}")
        return numpy.full(federation.config.clients, -1.0) if stored is None else stored.copy()


def _pack(federation: Federation, models: Submodels, row: int) -> dict[str, numpy.ndarray]:
    size = int(federation.layout.compact_sizes(models.counts[[row]])[0])
    return {
        "kept": models.kept[row].numpy(),
        "counts": models.counts[row].numpy(),
        "parameters": models.parameters[row, :size].numpy(),
    }


def _unpack(federation: Federation, clients: list[int], name: str) -> Submodels:
    stored = [federation.store.get_client(client, name) for client in clients]
    records = [record for record in stored if record is not None]
    sizes = [len(record["parameters"]) for record in records]
    parameters = torch.zeros((len(records), max(sizes, default=0)), dtype=federation.dtype)
    for row, record in zip(parameters, records, strict=True):
        row[: len(record["parameters"])] = torch.from_numpy(record["parameters"])
    kept = torch.from_numpy(numpy.stack([record["kept"] for record in records]))
    counts = torch.from_numpy(numpy.stack([record["counts"] for record in records]))
    return Submodels(kept, counts, parameters)
