"""What the command line refuses: in one line, and nothing is made or lost."""

import shutil
import sqlite3
from pathlib import Path

import pytest
import torch

from fedlps.cli import main
from tests.cli.commands import TINY, Refused


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "digit"], 'preset: got "digit", did you mean digits?'),
        (["run", ""], 'preset: got "", there is cifar10, '),
        (["run", "--method", ""], 'method: got "", there is cs, depthfl, '),
        (["run", "rouns=3"], "did you mean rounds?"),
        (["run", "ratio.rul=0.5"], "did you mean ratio.rule?"),
        (["run", "--explain", "rouns=3"], "did you mean rounds?"),
        (["run", "--method", "fedlp"], 'method: got "fedlp", did you mean fedlps?'),
        (["run", "method.scale=1"], "method.scale: unknown key"),
        (["run", "model.name=digits_cn"], "did you mean digits_cnn?"),
        (["run", "split.kind=pathologic"], "did you mean pathological?"),
        (["run", "ratio.rule=rrc"], "did you mean rcr?"),
        (["run", "ratio.rule=1.2"], "ratio.rule: got 1.2, expected p-ucbv or rcr or a number in (0, 1]"),
        (["run", "ratio.rule=0"], "ratio.rule: got 0, "),
        (["run", "fraction=1.5"], "fraction: got 1.5, expected a number in (0, 1]"),
        (["run", "faults.dropout=-0.1"], "faults.dropout: got -0.1, expected a number in [0, 1]"),
        (["run", "rounds=two"], 'rounds: got "two", expected a whole number >= 1'),
        (["run", "seed=[1"], "seed: got "),
        (["run", "clients=1000"], "1000 clients x 2 = 2000 shards, but 1437 training samples make 65 shards of 22"),
        (["run", "digits", "mnist"], '"mnist": expected key=value'),
        (["run", "--device", "gpu"], 'device: got "gpu", expected auto, cpu or cuda'),
        (["run", "--device", "cpu", "device=cuda"], "device: is given twice"),
        (["run", "--out"], "--out"),
        (["run", "--resume"], "--resume: expected --out DIR with it"),
        (["run", "--overwrite"], "--overwrite: expected --out DIR with it"),
        (["run", "--resume", "--overwrite", "--out", "x"], "--resume and --overwrite: expected one of them"),
        (["run", "--resume", "--out", "x"], "--out: x does not exist"),
        (["run", "mnist", "data.root=nowhere"], "train-images-idx3-ubyte[.gz], train-labels"),
        (["run", "mnist", "data.root=nowhere"], "nowhere (no such directory); run `fedlps data get mnist`"),
        (["methods", "fedav"], "did you mean fedavg?"),
        (["data", "get", "mnis"], "did you mean mnist?"),
        (["data", "get", "digits"], "there is nothing to download"),
        (["data", "get", "mnist", "--mirror", "ftp://x"], "mirror: got 'ftp://x'"),
        (["data", "check", "nowhere"], "nowhere: no such file or directory"),
        (["data", "chek"], "Did you mean 'check'?"),
        (["table"], "DIR"),
        (["table", "nowhere"], "nowhere: is no run: it has no run.yaml"),
        (["table", "."], "is no run"),
        (["rnu"], "Did you mean 'run'?"),
        (["run", "--resum"], "did you mean --resume?"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(refused: Refused, arguments: list[str], expected: str) -> None:
    assert expected in refused(*arguments)


@pytest.mark.parametrize("arguments", [["lr=-1"], ["clients=1000"], ["mnist", "data.root=nowhere"]])
def test_a_directory_that_was_asked_for_is_not_made(refused: Refused, arguments: list[str]) -> None:
    refused("run", *arguments, "--out", "new/run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_says_why(refused: Refused) -> None:
    error = refused("run", "--device", "cuda")
    assert "device: got cuda, but torch" in error
    assert "allowed here: auto, cpu" in error


def test_an_existing_directory_needs_resume_or_overwrite(refused: Refused, copied: Path) -> None:
    assert "exists; --resume goes on with its run, --overwrite replaces it" in refused("run", "--out", "run")


def test_what_is_no_run_is_not_overwritten(refused: Refused, place: Path) -> None:
    (place / "mine").mkdir()
    (place / "mine" / "run.db").write_text("mine")
    assert "is a directory that is no run" in refused("run", *TINY, "--overwrite", "--out", "mine")
    assert (place / "mine" / "run.db").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["lr=0.2"], "lr: got 0.2, but the run to resume has 0.1"),
        (["rounds=3"], "rounds: got 3, but the run to resume has 2"),
        (["digits"], "PRESET: got digits, but --resume takes all values from run/run.yaml"),
        (["--method", "fedavg"], "--method: got fedavg, but the run to resume has fedlps"),
    ],
)
def test_a_run_is_resumed_as_what_it_is(refused: Refused, copied: Path, arguments: list[str], expected: str) -> None:
    assert expected in refused("run", *arguments, "--resume", "--out", "run")


def change(directory: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(directory / "run.db") as connection:
        connection.execute(statement, values)
    connection.close()


def test_a_database_of_another_configuration_is_refused(refused: Refused, copied: Path, place: Path) -> None:
    assert main(["run", *TINY, "seed=1", "--out", "other"]) == 0
    shutil.copy(place / "other" / "run.db", copied / "run.db")
    assert "run.db belongs to another configuration" in refused("run", "--resume", "--out", "run")
    assert "run.db belongs to another configuration" in refused("table", "run")


def test_a_database_of_another_version_is_refused(refused: Refused, copied: Path) -> None:
    change(copied, "PRAGMA user_version = 99")
    assert "format version: got 99" in refused("run", "--resume", "--out", "run")
    assert "format version: got 99" in refused("table", "run")


def test_a_damaged_database_is_refused(refused: Refused, copied: Path) -> None:
    change(copied, "UPDATE tensors SET data = zeroblob(length(data)) WHERE name = 'global'")
    error = refused("run", "--resume", "--out", "run", started=True)
    assert "run.db" in error
    assert "global" in error


def test_a_database_that_was_cut_off_is_refused(refused: Refused, copied: Path) -> None:
    content = (copied / "run.db").read_bytes()
    (copied / "run.db").write_bytes(content[: len(content) // 2])
    assert "run.db" in refused("table", "run")
    assert "run.db" in refused("run", "--resume", "--out", "run")
