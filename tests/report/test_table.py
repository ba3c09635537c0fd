import math
from pathlib import Path

import numpy
import pytest

from fedlps.errors import InputError
from fedlps.report.table import FORMATS, HALVES, cells, figures, reached, rows, spent
from fedlps.run.record import to_yaml
from fedlps.run.store import RunStore
from tests.run.configured import configured

SPENT = {"flops_paper": 3e12, "flops_executed": 1e12, "bytes_up": 5e6, "bytes_down": 2e9, "time_simulated": 75.0}


def made(directory: Path, *overrides: str, accuracies: list[float], method: str = "fedlps") -> Path:
    """A run whose global accuracies are given, a round each."""
    text = to_yaml(configured(*overrides, method=method), {}, "")
    with RunStore.create(directory, text) as store:
        for number, accuracy in enumerate(accuracies, start=1):
            store.add_metrics(number, {"test_global": accuracy, "flops_paper": 1e9 * number})
        store.checkpoint()
    return directory


def test_figures_are_of_the_latest_evaluations() -> None:
    values = numpy.arange(1.0, 41.0)
    values[1::2] = math.nan  # evaluated every second round, not in the last
    got = figures({"round": numpy.arange(1, 41), "test_best": values})
    assert got["best"] == 39
    assert got["best10"] == numpy.mean(numpy.arange(21, 41, 2))
    assert math.isnan(got["last"])
    assert set(got) == set(FORMATS)


def test_totals_are_the_latest_and_have_units() -> None:
    metrics = {name: numpy.array([0.0, value]) for name, value in SPENT.items()}
    metrics |= {"train_s": numpy.array([1.0, 3000.0]), "eval_s": numpy.array([1.0, 725.0])}
    assert spent(figures(metrics)) == {
        "flops_paper": "3.000e12",
        "flops_executed": "1.000e12",
        "up": "5.0 MB",
        "down": "2.0 GB",
        "simulated": "1:15",
        "wall": "1:02:05",
    }


def test_nothing_measured_is_a_dash() -> None:
    assert set(cells(figures({"round": numpy.arange(0)})).values()) == {"-"}
    assert reached(figures({"round": numpy.arange(0)})) == []


def test_only_models_that_were_evaluated_are_reached() -> None:
    values = figures({"test_global": numpy.array([50.0, 60.0])})
    assert reached(values) == [{"test accuracy": "global", "at the end": "60.00 %", "mean of 10": "55.00 %"}]


def test_seeds_of_one_configuration_have_a_mean(tmp_path: Path) -> None:
    directories = [
        made(tmp_path / "a", "seed=0", accuracies=[10, 20]),
        made(tmp_path / "b", "seed=0", "lr=0.2", accuracies=[90]),
        made(tmp_path / "c", "seed=1", "threads=1", accuracies=[30, 50, 60]),
        made(tmp_path / "d", "seed=1", accuracies=[1], method="fedavg"),
    ]
    got = rows(directories)
    assert [row.run for row in got] == [*map(str, directories[:3]), "mean", str(directories[3])]
    mean = got[3]
    assert mean.seed == "2 runs"
    assert mean.rounds == "2-3/100"
    assert mean.figures["global"] == 40
    assert mean.figures["flops_paper"] == 2.5e9
    assert got[4].method == "fedavg"


def test_the_same_seed_twice_is_no_sample(tmp_path: Path) -> None:
    directories = [made(tmp_path / name, accuracies=[10]) for name in "ab"]
    assert [row.run for row in rows(directories)] == [*map(str, directories)]


def test_a_run_is_read_while_it_is_written(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run", to_yaml(configured(), {}, "")) as store:
        assert rows([tmp_path / "run"])[0].rounds == "0/100"
        store.add_metrics(1, {"test_global": 5.0})
        store.checkpoint()
        store.add_metrics(2, {"test_global": 6.0})
        (row,) = rows([tmp_path / "run"])
    assert row.rounds == "1/100"
    assert row.figures["global"] == 5


def test_a_directory_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run"):
        rows([tmp_path])


def test_the_halves_are_the_whole() -> None:
    assert set(HALVES[0][4:] + HALVES[1][1:]) == set(FORMATS)
