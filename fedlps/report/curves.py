"""The numbers behind pictures: runs put together by configuration, and their accuracy as mean and spread over seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
from numpy.typing import NDArray

from fedlps.errors import InputError
from fedlps.run.config import RESUMABLE, Config
from fedlps.run.resolve import values_of
from fedlps.run.store import RunStore
from fedlps.run.values import Value, show

Floats = NDArray[numpy.float64]
POINTS = 200  # of a curve over something that differs between seeds
SAME = ("clients", "data.", "split.", "model.")  # what runs in one picture share
IGNORED = ("seed", "data.root", *RESUMABLE)  # what tells no series from another


@dataclass(frozen=True)
class OneRun:
    """A run as of its latest checkpoint. metrics: see `RunStore.metrics`."""

    directory: Path
    config: Config
    metrics: Mapping[str, numpy.ndarray]

    @property
    def accuracy(self) -> str:
        """The metric that stands for its method: personal models' where it has them."""
        return next((name for name in ("test_last", "test_global") if self._evaluated(name).any()), "")

    def evaluations(self) -> dict[str, Floats]:
        """Rounds with an evaluation: `accuracy` in percent, and every other metric there. InputError without any."""
        if not self.accuracy:
            done, config = len(self.metrics["round"]), self.config
            raise InputError(
                f"{self.directory}: has no evaluation yet, so no accuracy to plot: {done} of {config.rounds} rounds "
                f"are done, evaluation.every={config.evaluation.every}"
            )
        there = self._evaluated(self.accuracy)
        columns = {name: values[there].astype(numpy.float64) for name, values in self.metrics.items()}
        return columns | {"accuracy": columns[self.accuracy]}

    def _evaluated(self, name: str) -> NDArray[numpy.bool_]:
        return ~numpy.isnan(self.metrics[name]) if name in self.metrics else numpy.zeros(1, numpy.bool_)


@dataclass(frozen=True)
class Series:
    """The runs of one configuration, a seed each. label: what tells it from the others."""

    label: str
    runs: list[OneRun]


@dataclass(frozen=True)
class Curve:
    """Mean and sample standard deviation over seeds (0 for one seed), all [points]."""

    x: Floats
    mean: Floats
    deviation: Floats


def read(directories: Sequence[Path]) -> list[OneRun]:
    """The runs, of which only reading is done. InputError: no run; runs of different presets."""
    runs = []
    for directory in directories:
        with RunStore.read(directory) as store:
            runs.append(OneRun(directory, store.config, store.metrics()))
    for run in runs[1:]:
        _check_same(runs[0], run)
    return runs


def series(runs: Sequence[OneRun]) -> list[Series]:
    """Runs by configuration, in the order given. Of several with one seed that which got furthest counts."""
    groups: dict[str, dict[int, OneRun]] = {}
    for run in runs:
        seeds = groups.setdefault(repr(_telling(run.config)), {})
        known = seeds.get(run.config.seed)
        if known is None or len(run.metrics["round"]) > len(known.metrics["round"]):
            seeds[run.config.seed] = run
    members = [list(seeds.values()) for seeds in groups.values()]
    labels = _labels([group[0].config for group in members])
    return [Series(label, group) for label, group in zip(labels, members, strict=True)]


def accuracy_curve(one: Series, metric: str) -> Curve:
    """Accuracy over a metric that grows from round to round; over `round` at the rounds that all seeds evaluated.

    Over another metric, which differs from seed to seed, every seed's accuracy is interpolated at common values.
    """
    tables = [run.evaluations() for run in one.runs]
    if metric == "round":
        common = tables[0]["round"]
        for table in tables[1:]:
            common = numpy.intersect1d(common, table["round"])
        rows = [table["accuracy"][numpy.isin(table["round"], common)] for table in tables]
        return _over_seeds(common, rows)
    first = max(float(table[metric][0]) for table in tables)
    last = min(float(table[metric][-1]) for table in tables)
    grid = tables[0][metric] if len(tables) == 1 else numpy.linspace(first, max(first, last), POINTS)
    return _over_seeds(grid, [numpy.interp(grid, table[metric], table["accuracy"]) for table in tables])


def _over_seeds(x: Floats, rows: Sequence[Floats]) -> Curve:
    table = numpy.stack(rows)
    spread = table.std(axis=0, ddof=1) if len(rows) > 1 else numpy.zeros(len(x))
    return Curve(x, table.mean(axis=0), spread)


def _check_same(first: OneRun, other: OneRun) -> None:
    wanted, found = (_picked(run.config, lambda key: key.startswith(SAME)) for run in (first, other))
    for key in {**wanted, **found}:
        if wanted.get(key) != found.get(key):
            raise InputError(
                f"{other.directory}: is of another preset than {first.directory}: {key} is {show(found.get(key))}, not "
                f"{show(wanted.get(key))}; plot them apart"
            )


def _labels(configs: Sequence[Config]) -> list[str]:
    """The method, and the keys in which it differs: from any other, or (method.*) from others of the same method."""
    values = [_telling(config) for config in configs]
    labels = []
    for mine in values:
        peers = [other for other in values if other["method.name"] == mine["method.name"]]
        differing = [
            key
            for key in mine
            if key != "method.name"
            and any(other.get(key) != mine[key] for other in (peers if key.startswith("method.") else values))
        ]
        labels.append(" ".join([str(mine["method.name"]), *(f"{key}={_plain(mine[key])}" for key in differing)]))
    return labels


def _telling(config: Config) -> dict[str, Value]:
    return _picked(config, lambda key: key not in IGNORED)


def _picked(config: Config, wanted: Callable[[str], bool]) -> dict[str, Value]:
    return {key: value for key, value in values_of(config).items() if wanted(key) and key != "data.root"}


def _plain(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else show(value)
