import csv
import io
import json
from pathlib import Path

import numpy
import pytest

from fedlps.cli import main
from fedlps.report.export import Form, export
from fedlps.report.table import FORMATS, rows
from tests.report.made import accuracies


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two seeds of one configuration in directories with awkward names."""
    monkeypatch.chdir(tmp_path)
    return [
        accuracies(Path("run_0"), "seed=0", values=[10, 20], metric="test_global"),
        accuracies(Path("run|1"), "seed=1", values=[10, 30], metric="test_global"),
    ]


def test_deviation_is_that_of_a_sample(made: list[Path]) -> None:
    *_, mean = rows(made)
    assert mean.figures["global"] == 25
    assert mean.deviations["global"] == pytest.approx(numpy.std([20, 30], ddof=1))
    assert mean.cells()["global"] == "25.00 ± 7.07"
    assert mean.cells()["last"] == "-"
    assert rows(made)[0].cells()["global"] == "20.00"


def test_markdown(made: list[Path]) -> None:
    lines = export(rows(made), Form.MARKDOWN).splitlines()
    assert lines[0].startswith("| run | method | seed | rounds | best | ")
    assert set(lines[1]) <= set("| -")
    assert lines[3].startswith("| run\\|1 | fedlps | 1 | 2/100 | - |")
    assert "| 25.00 ± 7.07 |" in lines[4]
    assert {line.replace("\\|", "").count("|") for line in lines[:5]} == {len(FORMATS) + 5}


def test_latex(made: list[Path]) -> None:
    text = export(rows(made), Form.LATEX)
    assert "run\\_0 & fedlps & 0 & 2/100 & - &" in text
    assert "25.00 $\\pm$ 7.07" in text
    body = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert {line.count(" & ") for line in body} == {len(FORMATS) + 3}
    assert "l" + "r" * (len(FORMATS) + 3) in text


def test_csv(made: list[Path]) -> None:
    first, _, mean = csv.DictReader(io.StringIO(export(rows(made), Form.CSV)))
    assert (first["run"], first["global"], first["global_deviation"], first["last"]) == ("run_0", "20.0", "", "")
    assert float(first["flops_paper"]) == 2e12
    assert float(mean["global_deviation"]) == pytest.approx(7.0710678)


def test_json(made: list[Path]) -> None:
    first, _, mean = json.loads(export(rows(made), Form.JSON))
    assert (first["run"], first["global"], first["last"], first["deviation"]) == ("run_0", 20.0, None, None)
    assert mean["deviation"]["global"] == pytest.approx(7.0710678)
    assert mean["deviation"]["last"] is None


def test_the_command(made: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "run_0", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["method"] == "fedlps"
    assert main(["table", "run_0", "--format", "jsn"]) == 2
    assert capsys.readouterr().err == 'fedlps: --format: got "jsn", did you mean json?\n'
