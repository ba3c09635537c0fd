"""`fedlps.run` from Python: what it returns, what it refuses, and models of the caller's own."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

import fedlps
from fedlps.errors import InputError
from fedlps.launch import prepare
from fedlps.models import ZOO, mlp
from tests.running import TINY, contents, model_of, tiny

OWN = {key: value for key, value in TINY.items() if not key.startswith("model.")}


def own_module() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 10))


def test_what_a_run_returns(tmp_path) -> None:
    run = tiny(tmp_path / "run", {"rounds": 2})
    assert isinstance(run, fedlps.Run)
    assert run.directory == tmp_path / "run"
    assert run.config.clients == 4
    assert run.stopped_by is None
    assert "cpu executor" in run.notes[0]
    assert {values.shape for values in run.metrics.values()} == {(2,)}
    assert {path.name for path in run.directory.iterdir()} == {
        *("run.yaml", "run.db", "lock", "metrics.csv", "model.safetensors")
    }
    parameters = load_file(run.directory / "model.safetensors")
    assert {name: values.shape for name, values in parameters.items()} == {
        "1.weight": (12, 64), "1.bias": (12,), "3.weight": (10, 12), "3.bias": (10,)
    }  # fmt: skip
    numpy.testing.assert_array_equal(numpy.concatenate([v.ravel() for v in (
        parameters["1.weight"], parameters["1.bias"], parameters["3.weight"], parameters["3.bias"]
    )]), model_of(run.directory))  # fmt: skip


def test_run_is_a_function_though_a_folder_has_its_name(tmp_path) -> None:
    """The import system binds an imported folder to its name; in a process of its own, whatever was imported here."""
    code = (
        "import fedlps; before = fedlps.run; from fedlps.run.config import Config; from fedlps import run; "
        "assert callable(run) and run is before is fedlps.run"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_the_same_run_twice_is_the_same(tmp_path) -> None:
    torch.manual_seed(1)
    first = tiny(tmp_path / "first", {"rounds": 2})
    torch.manual_seed(2)
    numpy.random.seed(3)
    second = tiny(tmp_path / "second", {"rounds": 2})
    assert contents(first.directory) == contents(second.directory)
    other = tiny(tmp_path / "other", {"rounds": 2, "seed": 1})
    assert contents(other.directory) != contents(first.directory)


def test_overrides_as_texts(tmp_path) -> None:
    texts = [f"{key}={value}" for key, value in {**TINY, "rounds": 1}.items()]
    run = fedlps.run("digits", out=tmp_path / "texts", overrides=texts)
    assert contents(run.directory) == contents(tiny(tmp_path / "mapping", {"rounds": 1}).directory)


def test_the_default_directories(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {**TINY, "rounds": 1, "seed": 3}
    names = [fedlps.run("digits", method="fedavg", overrides=given).directory for _ in range(2)]
    assert [Path(name) for name in names] == [Path("runs/digits-fedavg-seed3"), Path("runs/digits-fedavg-seed3-2")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"preset": "digit"}, r"^preset: .*did you mean digits"),
        ({"method": "fedavgg"}, r"^method: .*did you mean fedavg"),
        ({"overrides": {"lrr": 1}}, r"lrr.*did you mean lr"),
        ({"overrides": {"lr": -1}}, r"^lr: got -1"),
        ({"overrides": {"ratio.rule": 1.2}}, r"^ratio.rule: got 1.2"),
        ({"overrides": {"fraction": 0}}, r"^fraction: got 0"),
        ({"overrides": {"faults.dropout": 2}}, r"^faults.dropout: got 2"),
        ({"overrides": {"model.name": "mlpp"}}, r"^model.name: .*did you mean mlp"),
        ({"overrides": {"model.hidden": [3]}}, r"^model.hidden: digits_cnn has no such parameter"),
        ({"overrides": {"clients": 40}}, r"shards"),
        ({"overrides": {"device": "cuda"}}, r"^device: got cuda, but"),
        ({"overrides": {"executor": "cuda"}}, r"^executor: got cuda"),
        ({"overrides": {"precision": "bf16"}}, r"^precision: got bf16"),
        ({"overrides": {"data.name": "mnist", "data.root": "missing"}}, r"missing"),
        ({"overrides": {"method.alpha": 1}}, r"^method.alpha: unknown key"),
        ({"resume": True}, r"does not exist"),
    ],
)
def test_bad_input_is_one_line_and_creates_nothing(tmp_path, monkeypatch, arguments, says) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says) as error:
        fedlps.run(out=tmp_path / "run", **arguments)
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_a_directory_that_exists(tmp_path) -> None:
    first = tiny(tmp_path / "run", {"rounds": 1})
    before = contents(first.directory)
    with pytest.raises(InputError, match="exists; --resume goes on with its run"):
        tiny(tmp_path / "run", {"rounds": 1})
    assert contents(first.directory) == before
    again = tiny(tmp_path / "run", {"rounds": 2, "seed": 1}, overwrite=True)
    assert again.metrics["round"].tolist() == [1, 2]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").write_text("data")
    for how in ("resume", "overwrite"):
        with pytest.raises(InputError, match="is a directory that is no run"):
            tiny(tmp_path / "other", **{how: True})
    assert (tmp_path / "other" / "precious").read_text() == "data"


def test_a_session_holds_its_directory(tmp_path) -> None:
    with prepare(out=tmp_path / "run", overrides=TINY) as session:
        assert session.rounds_done == 0
        with pytest.raises(InputError, match="is writing this run"):
            fedlps.run(out=tmp_path / "run", resume=True)
        session.play()
        assert session.rounds_done == 4
    assert contents(tmp_path / "run") == contents(tiny(tmp_path / "whole").directory)


def test_an_own_model_trains_and_is_left_alone(tmp_path) -> None:
    module = own_module()
    before = copy.deepcopy(module.state_dict())
    torch.manual_seed(0)
    first = fedlps.run(out=tmp_path / "first", overrides=OWN, model=module)
    torch.manual_seed(1)
    second = fedlps.run(out=tmp_path / "second", overrides=OWN, model=module)
    assert contents(first.directory) == contents(second.directory), "dropout draws from the run's own streams"
    assert "Dropout" in first.notes[0] or "no chain" in first.notes[0]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert first.config.model.name == "own"


def test_an_own_model_resumes_with_itself_only(tmp_path) -> None:
    whole = fedlps.run(out=tmp_path / "whole", overrides=OWN, model=own_module())

    class StopError(Exception):
        pass

    def stop(number: int, metrics: object) -> None:
        if number == 2:
            raise StopError

    with pytest.raises(StopError):
        fedlps.run(out=tmp_path / "run", overrides={**OWN, "checkpoint_every": 1}, model=own_module(), on_round=stop)
    with pytest.raises(InputError, match=r"resume it with fedlps.run\(..., model=...\)"):
        fedlps.run(out=tmp_path / "run", resume=True)
    with pytest.raises(InputError, match=r"^model: differs"):
        fedlps.run(out=tmp_path / "run", resume=True, model=mlp((1, 8, 8), 10, [8]))
    fedlps.run(out=tmp_path / "run", resume=True, model=own_module())
    assert contents(tmp_path / "run") == contents(whole.directory)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), r"^model: has 9 outputs, but digits has 10 classes"),
        (nn.Sequential(nn.Flatten(), nn.Linear(63, 10)), r"^model: cannot take samples of shape \(1, 8, 8\)"),
        (nn.Sequential(nn.Flatten()), r"^model: got a module without parameters"),
        (nn.Conv2d(1, 10, 3), r"^model: output has shape"),
    ],
)
def test_own_models_that_cannot_be_trained(tmp_path, module, says) -> None:
    with pytest.raises(InputError, match=says) as error:
        fedlps.run(out=tmp_path / "run", overrides=OWN, model=module)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_registered_model(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("fedlps.models.ZOO", dict(ZOO))
    monkeypatch.setattr("fedlps.launch.models.ZOO", dict(ZOO))
    fedlps.register_model("tiny", lambda shape, classes, width=4: mlp(shape, classes, [width]))
    given = {**OWN, "rounds": 1, "model.name": "tiny", "model.width": 12}
    run = fedlps.run(out=tmp_path / "run", overrides=given)
    numpy.testing.assert_array_equal(model_of(run.directory), model_of(tiny(tmp_path / "mlp", {"rounds": 1}).directory))
    with pytest.raises(InputError, match="already registered"):
        fedlps.register_model("tiny", mlp)
