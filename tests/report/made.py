"""Runs made up for pictures: their metrics, participations and personal models are given, nothing is trained."""

import math
from pathlib import Path

import numpy

from fedlps.history import GROUPS, PART
from fedlps.run.record import to_yaml
from fedlps.run.store import RunStore
from tests.run.configured import configured


def accuracies(directory: Path, *overrides: str, values: list[float], method: str = "fedlps", metric: str = "") -> Path:
    """A run with these accuracies, a round each (NaN: not evaluated); 1e12 FLOPs and 100 s a round."""
    with RunStore.create(directory, to_yaml(configured(*overrides, method=method), {}, "")) as store:
        for number, value in enumerate(values, start=1):
            metrics = {metric or "test_last": value, "flops_paper": 1e12 * number, "time_simulated": 100.0 * number}
            store.add_metrics(number, {name: v for name, v in metrics.items() if not math.isnan(v)})
        store.checkpoint()
    return directory


def patterns(directory: Path, *overrides: str, groups: tuple[int, ...], clients: int, levels: int = 5) -> Path:
    """A run whose clients keep the even units first, as many as their capability allows; 40 rounds."""
    rng = numpy.random.default_rng(0)
    edges = numpy.cumsum([0, *groups])
    with RunStore.create(directory, to_yaml(configured(f"clients={clients}", *overrides), {}, "")) as store:
        store.put_tensor(GROUPS, numpy.array(groups))
        for client in range(clients):
            capability = 0.5 ** rng.integers(0, levels, 3)
            history = {
                "round": numpy.sort(rng.choice(40, 3, replace=False)) + 1,
                "ratio": capability * rng.uniform(0.3, 1, 3),
                "capability": capability,
                "counted": numpy.array([True, True, False]),  # the last was lost: the second is what it keeps
            }
            store.put_client(client, PART, history)
            counts = numpy.maximum(1, (history["ratio"][1] * numpy.array(groups)).astype(numpy.int32))
            kept = numpy.full(edges[-1], -1, numpy.int32)
            for first, units, count in zip(edges, groups, counts, strict=False):
                order = numpy.argsort(numpy.arange(units) % 2 + 0.6 * rng.random(units), kind="stable")
                kept[first : first + count] = numpy.sort(order[:count])
            store.put_client(client, "last", {"kept": kept, "counts": counts.astype(numpy.int32)})
        store.add_metrics(1, {"test_last": 50.0, "flops_paper": 1.0, "time_simulated": 1.0})
        store.checkpoint()
    return directory
