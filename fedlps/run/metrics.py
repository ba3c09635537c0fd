"""The metrics of a run: one row per round, one column per metric."""

import csv
import io
from collections.abc import Iterable, Mapping
from itertools import groupby
from math import isnan, nan

import numpy

from fedlps.run.database import Metric


class Metrics:
    """Columns of equal length, in the order in which they first appear; NaN where a round has no value."""

    def __init__(self, stored: Iterable[Metric] = ()) -> None:
        self.rounds = 0
        self._columns: dict[str, list[float]] = {}
        for number, metrics in groupby(stored, key=lambda metric: metric[0]):
            self.add(number, {name: value for _, name, value in metrics})

    def add(self, number: int, values: Mapping[str, float]) -> list[Metric]:
        """Append a round, counted from 1, the one after the last. Returns its values as they are stored."""
        if number != self.rounds + 1:
            raise ValueError(f"round: got {number}, expected {self.rounds + 1}")
        for name in values:
            self._columns.setdefault(name, [nan] * self.rounds)
        for name, column in self._columns.items():
            column.append(float(values.get(name, nan)) + 0.0)  # SQLite has no -0.0
        self.rounds = number
        return [(number, name, self._columns[name][-1]) for name in values]

    def arrays(self) -> dict[str, numpy.ndarray]:
        """`round` (int64, from 1) and every metric (float64), all [rounds]."""
        columns = {name: numpy.array(column, numpy.float64) for name, column in self._columns.items()}
        return {"round": numpy.arange(1, self.rounds + 1), **columns}

    def csv(self) -> str:
        """A line of names, then a line per round; empty where there is no value."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["round", *self._columns])
        columns = [["" if isnan(value) else repr(value) for value in column] for column in self._columns.values()]
        writer.writerows(zip(range(1, self.rounds + 1), *columns, strict=True))
        return text.getvalue()
