"""The command line as its users meet it: what it prints, what it refuses and how it ends."""

import errno
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from fedlps import __version__
from fedlps.cli import main
from fedlps.data import CATALOG, idx
from fedlps.data.catalog import Entry, File
from fedlps.errors import InputError
from fedlps.report import choices
from fedlps.run.config import Config
from fedlps.run.keys import rows_of
from fedlps.run.store import RunStore, read_record
from tests.data.files import arrays, write
from tests.data.mirrors import CONTENT, Handler, Server

ROOT = Path(__file__).parent.parent
TINY = ("clients=4", "fraction=0.5", "epochs=1", "rounds=2")
OWN_FILES = {"run.yaml", "run.db", "lock", "metrics.csv", "model.safetensors"}

Refused = Callable[..., str]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds. Not to be changed."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    assert main(["run", *TINY, "--out", str(directory)]) == 0
    return directory


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def copied(finished: Path, place: Path) -> Path:
    """The run of two rounds, to be changed."""
    return Path(shutil.copytree(finished, place / "run"))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], place: Path) -> Refused:
    """Runs the command line: one line on standard error, nothing elsewhere, exit code 2, no file or directory made."""

    def run(*arguments: str, started: bool = False) -> str:
        before = set(place.rglob("*"))
        capsys.readouterr()
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("fedlps: ")
        assert printed.err.count("\n") == 1
        assert started or printed.out == ""
        assert set(place.rglob("*")) == before
        return printed.err

    return run


def command_line(*arguments: str, cwd: Path) -> "subprocess.Popen[str]":
    """The command line in a process of its own."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-m", "fedlps", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "FORCE_COLOR": "1"},
    )


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


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda content: content[:-5], "truncated"),
        (lambda content: b"\0\0\x09" + content[3:], "wrong magic number"),
        (lambda content: b"\x1f\x8b" + content[2:], "corrupt gzip"),
        (lambda content: content + b"x", "trailing bytes"),
    ],
)
def test_damaged_data_is_named(refused: Refused, place: Path, damage: Callable[[bytes], bytes], expected: str) -> None:
    write(place / "set", arrays(), compressed=False)
    images = place / "set" / idx.STEMS[0]
    images.write_bytes(damage(images.read_bytes()))
    for error in (refused("run", "mnist", "data.root=set", "--out", "new"), refused("data", "check", "set")):
        assert f"set/{idx.STEMS[0]}: " in error
        assert expected in error


def test_a_missing_file_is_named(refused: Refused, place: Path) -> None:
    write(place / "set", arrays())
    (place / "set" / f"{idx.STEMS[3]}.gz").unlink()
    error = refused("run", "mnist", "data.root=set")
    assert f"data set mnist: {idx.STEMS[3]}[.gz] not found in set; run `fedlps data get mnist`" in error


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


def test_a_run_end_to_end(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *TINY]) == 0
    output = capsys.readouterr().out
    assert {path.name for path in (place / "runs" / "digits-fedlps-seed0").iterdir()} == OWN_FILES
    assert "fedlps on digits with digits_cnn: 2 rounds, 4 clients, 0.5 of them per round, seed 0" in output
    assert "round 1/2  test_last " in output
    assert "round 2/2  test_last " in output
    for label in ("best", "last", "global", "flops_paper", "flops_executed", "up", "down", "simulated", "wall"):
        assert any(line.startswith(label) for line in output.splitlines()), label
    assert output.rstrip().endswith("runs/digits-fedlps-seed0")
    assert "\x1b" not in output
    assert "\r" not in output


def test_a_finished_run_is_resumed_to_nothing(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (copied / "metrics.csv").read_bytes()
    assert main(["run", "--resume", "--out", "run", "--method", "fedlps", "clients=4", "--device", "cpu"]) == 0
    assert "2 of 2 rounds are done" in capsys.readouterr().out
    assert (copied / "metrics.csv").read_bytes() == before


def test_a_run_is_overwritten(copied: Path) -> None:
    assert main(["run", *TINY, "seed=7", "--overwrite", "--out", "run"]) == 0
    assert read_record(copied).config.seed == 7


def test_a_run_in_which_all_diverge_fails_in_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *TINY, "lr=1e30", "--out", "run"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fedlps: round 1: all clients (")
    assert error.count("\n") == 1
    assert main(["table", "run"]) == 0


def test_table_has_a_row_per_run_and_a_mean_over_seeds(
    copied: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *TINY, "seed=1", "--out", "other"]) == 0
    capsys.readouterr()
    assert main(["table", "run", "other"]) == 0
    header, first, second, mean, _ = capsys.readouterr().out.splitlines()
    assert header.split()[:6] == ["run", "method", "seed", "rounds", "best", "best10"]
    assert first.split()[:4] == ["run", "fedlps", "0", "2/2"]
    assert second.split()[:4] == ["other", "fedlps", "1", "2/2"]
    assert mean.split()[:5] == ["mean", "fedlps", "2", "runs", "2/2"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_a_checkpoint(
    place: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    process = command_line("run", *TINY[:-1], "rounds=20", "model.name=mlp", "--out", "run", cwd=place)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("round "):
            break
    process.send_signal(number)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    with RunStore.read(place / "run") as store:
        done = store.rounds
    assert 0 < done < 20
    assert error == f"stopped after round {done}; to go on: fedlps run --resume --out run\n"
    assert "\x1b" not in output  # although colours were asked for
    assert main(["run", "--resume", "--out", "run", "checkpoint_every=1"]) == 0
    assert f"{done} of 20 rounds are done\n" in capsys.readouterr().out
    with RunStore.read(place / "run") as store:
        assert store.rounds == 20


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "run/x"), 1, "fedlps: run/x: No space left on device\n"),
        (OSError("odd"), 1, "fedlps: odd\n"),
        (MemoryError(), 1, "fedlps: there is not enough memory\n"),
        (InputError("two\nlines"), 2, "fedlps: two lines\n"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int, line: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(choices, "listed_presets", fail)
    assert main(["presets"]) == code
    assert capsys.readouterr() == ("", line)


def test_ctrl_c_outside_a_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(choices, "listed_presets", interrupt)
    assert main(["presets"]) == 130
    assert capsys.readouterr().out == ""


def test_a_reader_that_goes_away_is_no_error(place: Path) -> None:
    process = command_line("presets", cwd=place)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    process.stderr.close()


def test_explain_lists_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "mnist", "lr=0.5", "--explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.partition("=")[0] for line in lines if not line.startswith(" ")]
    assert listed == [row.key for row in rows_of(Config)]
    assert "lr=0.5" in lines
    assert "clients=100" in lines
    assert "split.alpha=required" in lines
    assert "    allowed: a number in (0, 1]" in lines
    assert "    share of the clients selected per round" in lines


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "fedlps run"),
        (["-h"], "Usage: fedlps"),
        ([], "Usage: fedlps"),
        (["run", "-h"], "fedlps run mnist --method fedavg"),
        (["table", "--help"], "fedlps table runs/*"),
        (["data", "get", "-h"], "--mirror"),
        (["--version"], f"fedlps {__version__}"),
        (["methods"], "FedAvg: every client trains the whole model"),
        (["methods", "fedlps"], "Learnable Sparse Customization in Heterogeneous Edge Computing"),
        (["presets"], "    rounds=100 clients=30 fraction=0.2 epochs=5 batch=10 lr=0.1"),
        (["data"], "digits: comes with scikit-learn"),
    ],
)
def test_what_there_is_is_told(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fedlps", *arguments])
    assert main() == 0
    printed = capsys.readouterr()
    assert expected in printed.out
    assert printed.err == ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    files = tuple(File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items())
    made = Server(("127.0.0.1", 0), Handler)
    made.requests = []
    monkeypatch.setitem(CATALOG, "made", Entry(CATALOG["mnist"].read, lambda *_: [], files, (made.mirror("good"),)))
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_data_get_downloads_and_says_where_to(server: Server, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                "data",
                "get",
                "made",
                "--mirror",
                server.mirror("gone"),
                "--mirror",
                server.mirror("breaking"),
                "--to",
                "set",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.splitlines() == ["first: 200.0 kB", "second: 1.0 kB", "made is in set"]
    assert {path.name: path.read_bytes() for path in (place / "set").iterdir()} == CONTENT


def test_data_get_without_a_mirror_that_has_it(server: Server, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "get", "made", "--mirror", server.mirror("gone"), "--to", "set"]) == 2
    error = capsys.readouterr().err
    assert "first: no mirror gave it" in error
    assert error.count("\n") == 1


def test_data_check_says_what_is_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(place / "set", arrays())
    assert main(["data", "check", "set"]) == 0
    assert "12 training and 5 test images of 4 x 3, 3 classes" in capsys.readouterr().out
