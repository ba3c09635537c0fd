"""What the documentation shows is what there is, and what it says works."""

import importlib
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fedlps
from fedlps.cli import main
from fedlps.errors import InputError
from fedlps.methods import METHODS
from tests.running import TINY

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "methods.md").read_text()
REAL, EXAMPLE, CALL = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture
def halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example in a directory of its own, imported from there, and forgotten afterwards."""
    (tmp_path / "halves.py").write_text(EXAMPLE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    yield
    METHODS.pop("halves", None)
    sys.modules.pop("halves", None)


def test_the_file_walked_through_is_the_real_one() -> None:
    name = re.search(r"This is `(fedlps/methods/\w+\.py)`, whole", TEXT)
    assert name is not None
    assert (ROOT / name[1]).read_text() == REAL


def test_every_part_is_in_the_table() -> None:
    from fedlps.recipe import Method

    described = re.findall(r"^\| (`.*?`) \|", TEXT, flags=re.MULTILINE)
    assert {name.strip("`") for names in described for name in names.split(", ")} == set(Method.__dataclass_fields__)


@pytest.mark.usefixtures("halves")
def test_following_the_text_adds_a_method(capsys) -> None:
    importlib.import_module("halves")
    assert main(["methods", "halves"]) == 0
    shown = capsys.readouterr().out
    assert "Halves: every client trains a random part of the units" in shown
    assert "method.share=0.5\n" in shown
    run = fedlps.run("digits", method="halves", out="run", overrides={**TINY, "rounds": 2, "method.share": 0.25})
    assert run.metrics["ratio_mean"].tolist() == [0.25, 0.25]
    whole = fedlps.run("digits", method="fedavg", out="whole", overrides={**TINY, "rounds": 2})
    assert run.metrics["bytes_down"][-1] < whole.metrics["bytes_down"][-1]
    with pytest.raises(InputError, match=r"^method\.share: got 0"):
        fedlps.run("digits", method="halves", out="wrong", overrides={**TINY, "method.share": 0})


@pytest.mark.usefixtures("halves")
def test_the_call_in_the_text_runs() -> None:
    small = CALL.replace('"rounds": 2', '"rounds": 2, "clients": 4, "epochs": 1, "split.test_per_class": 10')
    assert small != CALL
    Path("call.py").write_text(small)
    runpy.run_path("call.py")
    assert Path("runs/halves/model.safetensors").exists()
