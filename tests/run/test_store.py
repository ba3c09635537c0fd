import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy
import pytest
from safetensors.numpy import load_file

from fedlps.errors import InputError
from fedlps.run.database import Database
from fedlps.run.format import APPLICATION_ID, PAGE_SIZE, VERSION
from fedlps.run.record import to_yaml
from fedlps.run.store import RunStore, read_record
from tests.run.configured import configured
from tests.run.sqlite import connect

ARRAYS = {
    "weights": numpy.arange(6, dtype=numpy.float32).reshape(2, 3),
    "units": numpy.array([3, 1, 2], numpy.int32),
    "turned": numpy.arange(6.0).reshape(2, 3).T,  # not contiguous
    "empty": numpy.zeros((0, 3)),
    "number": numpy.array(2.5),
    "mask": numpy.array([True, False]),
}


@pytest.fixture
def store(directory: Path, config_yaml: str) -> Iterator[RunStore]:
    with RunStore.create(directory, config_yaml) as store:
        yield store


def assert_equal(got: dict[str, numpy.ndarray] | None, expected: dict[str, numpy.ndarray]) -> None:
    assert got is not None
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
        numpy.testing.assert_array_equal(got[name], array)


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_clients(store: RunStore) -> None:
    for checkpoints in range(3):
        assert store.get_client(7, "last") is None
        store.put_client(7, "last", ARRAYS)
        store.put_client(3, "last", {"bandit": numpy.array([1.0 + checkpoints])})
        store.put_client(3, "best", {})
        assert_equal(store.get_client(7, "last"), ARRAYS)
        assert store.clients("last") == [3, 7]
        store.checkpoint()
        assert store.pending_bytes == 0
        assert_equal(store.get_client(7, "last"), ARRAYS)
        assert_equal(store.get_client(3, "last"), {"bandit": numpy.array([1.0 + checkpoints])})
        assert store.get_client(3, "best") == {}
        store.delete_client(7, "last")
        assert store.get_client(7, "last") is None
        assert store.clients("last") == [3]
        store.checkpoint()
        assert store.clients("last") == [3]
        assert store.clients("none") == []


def test_what_is_put_is_a_copy_and_so_is_what_is_got(store: RunStore) -> None:
    array = numpy.zeros(3)
    store.put_client(0, "last", {"a": array})
    store.put_tensor("a", array)
    array[:] = 1
    for _ in range(2):
        for got in (store.get_client(0, "last") or {}).get("a"), store.get_tensor("a"):
            assert got is not None
            assert not got.any()
            got[:] = 2
        store.checkpoint()


def test_tensors(store: RunStore) -> None:
    assert store.get_tensor("weights") is None
    for name, array in ARRAYS.items():
        store.put_tensor(name, array)
    store.put_tensor("again", numpy.zeros(3))
    store.checkpoint()
    store.put_tensor("again", numpy.ones(2, numpy.int64))
    got = {name: tensor for name in ARRAYS if (tensor := store.get_tensor(name)) is not None}
    assert_equal(got, ARRAYS)
    with pytest.raises(ValueError, match="dtype object"):
        store.put_tensor("x", numpy.array([None]))
    with pytest.raises(ValueError, match=r"run\.manifest"):
        store.put_tensor("run.manifest", numpy.zeros(1))


def test_metrics(store: RunStore, directory: Path) -> None:
    assert store.metrics()["round"].shape == (0,)
    store.add_metrics(1, {"loss": 0.1, "accuracy": float("nan"), "zero": -0.0})
    store.checkpoint()
    store.add_metrics(2, {"loss": float("inf"), "late": 1e300})
    with pytest.raises(ValueError, match="round: got 4, expected 3"):
        store.add_metrics(4, {"loss": 1.0})
    with pytest.raises(ValueError, match="at least one"):
        store.add_metrics(3, {})
    nan = numpy.nan
    expected = {
        "round": [1, 2],
        "loss": [0.1, numpy.inf],
        "accuracy": [nan, nan],
        "zero": [0, nan],
        "late": [nan, 1e300],
    }
    assert store.rounds == 2
    with RunStore.read(directory) as reader:
        assert reader.rounds == 1
    store.checkpoint()
    with RunStore.read(directory) as reader:
        assert reader.rounds == 2
        for metrics in (store.metrics(), reader.metrics()):
            assert list(metrics) == list(expected)
            for name, column in expected.items():
                numpy.testing.assert_array_equal(metrics[name], column)
    text = (directory / "metrics.csv").read_text()
    assert text == "round,loss,accuracy,zero,late\n1,0.1,,0.0,\n2,inf,,,1e+300\n"


def test_nothing_is_stored_before_a_checkpoint(store: RunStore, directory: Path, config_yaml: str) -> None:
    store.put_client(1, "last", ARRAYS)
    store.put_tensor("t", numpy.zeros(100))
    store.add_metrics(1, {"loss": 1.0})
    pending = store.pending_bytes
    assert 800 < pending < 3000
    store.put_client(1, "last", ARRAYS)
    assert store.pending_bytes == pending
    store.delete_client(1, "last")
    assert store.pending_bytes == 800
    store.close()
    with RunStore.open(directory) as again:
        assert again.rounds == 0
        assert again.get_client(1, "last") is None
        assert again.get_tensor("t") is None
    assert (directory / "run.yaml").read_text() == config_yaml
    assert not (directory / "metrics.csv").exists()


def test_the_file_is_what_the_design_says(store: RunStore, directory: Path) -> None:
    store.put_client(1, "last", ARRAYS)
    store.add_metrics(1, {"loss": 1.0, "accuracy": float("nan")})
    store.checkpoint()
    with closing(connect(directory)) as connection:
        pragmas = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "journal_mode")}
        assert pragmas == {"page_size": 65536, "journal_mode": "delete"}
        assert connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        assert connection.execute("PRAGMA user_version").fetchone()[0] == VERSION
        columns = "SELECT name FROM pragma_table_info(?)"
        tables = {name: [column for (column,) in connection.execute(columns, (name,))] for name in TABLES}
        assert tables == TABLES
        strict = "SELECT strict FROM pragma_table_list WHERE name IN ('metrics', 'tensors', 'clients')"
        assert connection.execute(strict).fetchall() == [(1,)] * 3
        assert connection.execute("SELECT value FROM metrics ORDER BY name").fetchall() == [(None,), (1.0,)]
    assert sorted(path.name for path in directory.iterdir()) == ["lock", "metrics.csv", "run.db", "run.yaml"]


TABLES = {
    "metrics": ["round", "name", "value", "digest"],
    "tensors": ["name", "digest", "dtype", "shape", "data"],
    "clients": ["id", "part", "digest", "data"],
}


def test_model_and_record(store: RunStore, directory: Path) -> None:
    model = {"0.weight": ARRAYS["turned"], "0.bias": ARRAYS["units"]}
    store.write_model(model)
    assert_equal(load_file(directory / "model.safetensors"), model)
    again = to_yaml(configured("threads=3"), {"numpy": "3"}, "again")
    store.write_record(again)
    assert store.config.threads == read_record(directory).config.threads == 3
    with pytest.raises(ValueError, match="another configuration"):
        store.write_record(to_yaml(configured("lr=3"), {}, ""))


def test_a_second_writer_is_refused(store: RunStore, directory: Path) -> None:
    code = "import sys, pathlib\nfrom fedlps.run.store import RunStore\nRunStore.open(pathlib.Path(sys.argv[1]))"
    refused = subprocess.run([sys.executable, "-c", code, str(directory)], capture_output=True, text=True, check=False)
    last = refused.stderr.strip().splitlines()[-1]
    assert f"process {os.getpid()} is writing this run" in last
    with pytest.raises(InputError, match="is writing this run"):
        RunStore.open(directory)
    store.close()
    subprocess.run([sys.executable, "-c", code, str(directory)], check=True)


def test_a_reader_reads_while_a_writer_writes(store: RunStore, directory: Path) -> None:
    with RunStore.read(directory) as reader:
        for number in range(1, 6):
            store.add_metrics(number, {"loss": number})
            store.put_tensor("number", numpy.array(number))
            store.put_client(0, "last", {"number": numpy.array(number)})
            store.checkpoint()
            assert reader.rounds == number
            assert reader.get_tensor("number") == number
            assert (reader.get_client(0, "last") or {})["number"] == number
            assert list(reader.metrics()["loss"]) == list(range(1, number + 1))


def test_what_is_no_run_is_refused(tmp_path: Path, directory: Path, config_yaml: str) -> None:
    for start in (RunStore.open, RunStore.read):
        for path in (tmp_path / "missing", tmp_path):
            with pytest.raises(InputError, match="is no run") as error:
                start(path)
            one_line(error)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        RunStore.create(tmp_path / "file", config_yaml)
    RunStore.create(directory, config_yaml).close()
    with pytest.raises(InputError, match=r"has a run.yaml already"):
        RunStore.create(directory, config_yaml)


@pytest.mark.parametrize("start", [RunStore.open, RunStore.read])
def test_a_file_of_another_kind_version_or_configuration_is_refused(
    directory: Path, config_yaml: str, start: Callable[[Path], RunStore]
) -> None:
    RunStore.create(directory, config_yaml).close()
    (directory / "run.yaml").write_text(config_yaml.replace("lr: 0.1", "lr: 0.3"))
    with pytest.raises(InputError, match="another configuration") as error:
        start(directory)
    one_line(error)
    (directory / "run.yaml").write_text(config_yaml.replace("lr: 0.1", "lr: -0.1"))
    with pytest.raises(InputError, match=r"run\.yaml: lr: got -0\.1, expected") as error:
        start(directory)
    one_line(error)
    (directory / "run.yaml").write_text(config_yaml)
    for pragma, before, expected in [
        ("user_version", VERSION, "format version: got 7"),
        ("application_id", APPLICATION_ID, "application_id: got 7"),
    ]:
        with closing(connect(directory)) as connection:
            connection.execute(f"PRAGMA {pragma} = 7")
        with pytest.raises(InputError, match=expected) as error:
            start(directory)
        one_line(error)
        with closing(connect(directory)) as connection:
            connection.execute(f"PRAGMA {pragma} = {before}")
    start(directory).close()
    (directory / "run.db").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="not a database") as error:
        start(directory)
    one_line(error)


@pytest.mark.parametrize("leave", ["nothing", "an empty file"])
def test_killed_before_anything_was_stored_it_starts_again(directory: Path, config_yaml: str, leave: str) -> None:
    RunStore.create(directory, config_yaml).close()
    (directory / "run.db").unlink()
    if leave == "nothing":
        with pytest.raises(InputError, match=r"has no run.db"):
            RunStore.read(directory)
    else:
        (directory / "run.db").touch()
    with RunStore.open(directory) as store:
        assert store.rounds == 0
        store.add_metrics(1, {"loss": 1.0})
        store.checkpoint()
    (directory / "run.db").write_bytes(b"")
    with pytest.raises(InputError, match=r"has metrics.csv but no run.db"):
        RunStore.open(directory)


def test_clients_cost_what_is_kept(store: RunStore, directory: Path) -> None:
    """Submodels of five sizes, replaced again and again: a part of a page more each, and room is used again."""
    sizes = [300_000 // 4**level for level in range(5)] * 4
    kept = 2 * 4 * sum(sizes)
    for number in range(1, 5):
        for client, size in enumerate(sizes):
            for part in ("last", "best"):
                store.put_client(client, part, {"parameters": numpy.full(size, number, numpy.float32)})
        assert store.pending_bytes < 1.01 * kept
        store.add_metrics(number, {"loss": 1.0})
        store.checkpoint()
        assert (directory / "run.db").stat().st_size < kept + PAGE_SIZE * 2 * len(sizes)


@contextmanager
def at_most(size_bytes: int) -> Iterator[None]:
    """No file may grow beyond this: what a full disk is to a test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_on_a_full_disk_the_last_checkpoint_stands_and_what_waits_is_kept(store: RunStore, directory: Path) -> None:
    store.put_tensor("t", numpy.zeros(3))
    store.add_metrics(1, {"loss": 1.0})
    store.checkpoint()
    store.put_tensor("t", numpy.ones(200_000))
    store.add_metrics(2, {"loss": 2.0})
    with at_most(1_000_000):
        for _ in range(2):
            with pytest.raises(InputError, match=r"run.db: the (system|disk)") as error:
                store.checkpoint()
            one_line(error)
            with RunStore.read(directory) as reader:
                assert reader.rounds == 1
                numpy.testing.assert_array_equal(reader.get_tensor("t"), numpy.zeros(3))
    store.checkpoint()
    with RunStore.read(directory) as reader:
        assert reader.rounds == 2
        numpy.testing.assert_array_equal(reader.get_tensor("t"), numpy.ones(200_000))


def test_an_interrupted_checkpoint_can_be_made_again(
    store: RunStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may come at the worst place: after the commit, before the store knows of it."""
    store.put_client(1, "last", ARRAYS)
    store.add_metrics(1, {"loss": 1.0})
    write = Database.write

    def interrupted(*arguments: Any) -> None:
        write(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.checkpoint()
    store.add_metrics(2, {"loss": 2.0})
    store.checkpoint()
    store.close()
    with RunStore.open(directory) as again:
        assert list(again.metrics()["loss"]) == [1.0, 2.0]
        assert_equal(again.get_client(1, "last"), ARRAYS)
