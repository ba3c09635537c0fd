"""The numbers of runs: what each reached and spent, and the mean over seeds. No printing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy

from fedlps.report.quantities import duration, flops, percent, size
from fedlps.run.config import RESUMABLE, Config
from fedlps.run.resolve import values_of
from fedlps.run.store import RunStore

Figures = Mapping[str, float]
"""What a run reached and spent so far, by the labels of `FORMATS`; NaN: nothing measured."""

ACCURACIES = ("best", "last", "global")
LATEST = 10  # evaluations in the mean
SPENT = {
    "flops_paper": flops,
    "flops_executed": flops,
    "up": size,
    "down": size,
    "simulated": duration,
    "wall": duration,
}
FORMATS = {label: percent for name in ACCURACIES for label in (name, f"{name}{LATEST}")} | SPENT
HALVES = (("run", "method", "seed", "rounds", *(label for label in FORMATS if label not in SPENT)), ("run", *SPENT))
LEGEND = (
    f"best, last, global: test accuracy in percent at the latest evaluation; "
    f"best{LATEST}, last{LATEST}, global{LATEST}: mean of the latest {LATEST} evaluations; "
    f"mean ± sample standard deviation over seeds"
)


@dataclass(frozen=True)
class Row:
    """One run, or the mean over the seeds of one configuration with the sample standard deviation."""

    run: str
    method: str
    seed: str
    rounds: str  # done/all
    figures: Figures
    deviations: Figures = field(default_factory=dict)

    def cells(self) -> dict[str, str]:
        """Label -> text, in order."""
        names = {"run": self.run, "method": self.method, "seed": self.seed, "rounds": self.rounds}
        spread = cells(dict.fromkeys(FORMATS, math.nan) | dict(self.deviations))
        return names | {
            label: text if spread[label] == "-" else f"{text} ± {spread[label]}"
            for label, text in cells(self.figures).items()
        }


def figures(metrics: Mapping[str, numpy.ndarray]) -> Figures:
    """The figures of a run from its metrics (`RunStore.metrics`)."""
    found = {}
    for name in ACCURACIES:
        values = metrics.get(f"test_{name}", numpy.empty(0))
        values = values[~numpy.isnan(values)]
        found[name] = _mean(values[-1:])
        found[f"{name}{LATEST}"] = _mean(values[-LATEST:])
    return found | {
        "flops_paper": _total(metrics, "flops_paper"),
        "flops_executed": _total(metrics, "flops_executed"),
        "up": _total(metrics, "bytes_up"),
        "down": _total(metrics, "bytes_down"),
        "simulated": _total(metrics, "time_simulated"),
        "wall": _total(metrics, "train_s") + _total(metrics, "eval_s"),
    }


def cells(values: Figures) -> dict[str, str]:
    """Label -> text with its unit, in order; `-` where there is nothing."""
    return {label: "-" if math.isnan(values[label]) else form(values[label]) for label, form in FORMATS.items()}


def reached(values: Figures) -> list[dict[str, str]]:
    """The test accuracies of one run: a row for each kind of model that was evaluated."""
    texts = cells(values)
    return [
        {"test accuracy": name, "at the end": f"{texts[name]} %", f"mean of {LATEST}": f"{texts[f'{name}{LATEST}']} %"}
        for name in ACCURACIES
        if not math.isnan(values[name])
    ]


def spent(values: Figures) -> dict[str, str]:
    """What one run cost: label -> text."""
    return {label: text for label, text in cells(values).items() if label in SPENT}


def rows(directories: Sequence[Path]) -> list[Row]:
    """A row per run, in the order given; behind the last run of a configuration with several seeds, their mean.

    Runs that are being written are read as of their latest checkpoint. InputError: a directory that is no run.
    """
    groups: dict[str, list[tuple[int, Row]]] = {}
    listed: list[list[Row]] = []
    for directory in directories:
        with RunStore.read(directory) as store:
            config, metrics = store.config, store.metrics()
        rounds = f"{len(metrics['round'])}/{config.rounds}"
        row = Row(str(directory), config.method.name, str(config.seed), rounds, figures(metrics))
        groups.setdefault(_but_seed(config), []).append((len(listed), row))
        listed.append([row])
    for group in groups.values():
        runs = [row for _, row in group]
        if len({row.seed for row in runs}) > 1:
            listed[group[-1][0]].append(_mean_row(runs))
    return list(chain.from_iterable(listed))


def _mean(values: Sequence[float] | numpy.ndarray) -> float:
    return float(numpy.mean(values)) if len(values) else math.nan


def _total(metrics: Mapping[str, numpy.ndarray], name: str) -> float:
    """The latest value of a cumulative metric."""
    return _mean(metrics.get(name, numpy.empty(0))[-1:])


def _but_seed(config: Config) -> str:
    """What runs of one configuration and different seeds have in common."""
    return repr({key: value for key, value in values_of(config).items() if key not in ("seed", *RESUMABLE)})


def _mean_row(runs: Sequence[Row]) -> Row:
    done = sorted({row.rounds for row in runs}, key=lambda rounds: int(rounds.partition("/")[0]))
    rounds = done[0] if len(done) == 1 else f"{done[0].partition('/')[0]}-{done[-1]}"
    means = {label: _mean([row.figures[label] for row in runs]) for label in FORMATS}
    spread = {label: float(numpy.std([row.figures[label] for row in runs], ddof=1)) for label in FORMATS}
    return Row("mean", runs[0].method, f"{len(runs)} runs", rounds, means, spread)
