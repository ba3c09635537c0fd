"""The files of a run: what is written waits in memory until a checkpoint, which is one transaction."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy
from safetensors.numpy import load as load_record
from safetensors.numpy import save as save_record

from fedlps.errors import InputError
from fedlps.run.config import Config
from fedlps.run.database import Database, Metric
from fedlps.run.files import cannot_write, write_atomically
from fedlps.run.format import CLIENTS, MANIFEST, TENSORS, Key, Row, Table
from fedlps.run.lock import Lock
from fedlps.run.metrics import Metrics
from fedlps.run.record import Record, fingerprint, from_yaml


class RunStore:
    """One run's directory, by `create`, `open` (to go on writing) or `read`. A context manager.

    What is put is seen at once by this store's own `get_*`; by others, and after a crash, from the next `checkpoint`.
    Checkpoint between rounds only: what one holds is taken for the state after round `rounds`.
    InputError, one line: not a run, held by another process, another version or configuration, the system refuses.
    DamagedRunError (an InputError): what is stored is not what was written.
    """

    def __init__(self, directory: Path, record: Record, database: Database, lock: Lock | None) -> None:
        with database.view() as manifest:
            if manifest.configuration != fingerprint(record.config):
                raise InputError(f"{directory}: run.db belongs to another configuration than run.yaml")
        self.directory = directory
        self.record = record
        self._database = database
        self._lock = lock
        self._metrics = Metrics(database.metrics())
        self._pending: dict[tuple[Table, Key], Row | None] = {}
        self._pending_metrics: list[Metric] = []
        self._pending_bytes = 0

    @classmethod
    def create(cls, directory: Path, config_yaml: str) -> Self:
        """A new run in a directory that holds none yet (made if missing). config_yaml: see `record.to_yaml`."""
        record = from_yaml(config_yaml)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(directory, error) from error
        lock = Lock(directory / "lock")
        with _released_on_error(lock):
            for name in ("run.yaml", "run.db"):
                if (directory / name).exists():
                    raise InputError(f"{directory}: has a {name} already; use --resume or --overwrite")
            write_atomically(directory / "run.yaml", config_yaml)
            return cls._start(directory, record, lock)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Go on with a run. If it was killed before its first checkpoint, `rounds` is 0."""
        read_record(directory)  # before the lock, which would leave a file in a directory that is no run
        lock = Lock(directory / "lock")
        with _released_on_error(lock):
            stored = directory / "run.db"
            if not (stored.exists() and stored.stat().st_size) and (directory / "metrics.csv").exists():
                raise InputError(f"{directory}: has metrics.csv but no run.db; start the run anew with --overwrite")
            return cls._start(directory, read_record(directory), lock)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Only read, which is possible while another process writes. Each answer is of one checkpoint, the latest."""
        record = read_record(directory)
        if not (directory / "run.db").exists():
            raise InputError(f"{directory}: has no run.db: the run was stopped before it began")
        database = Database(directory / "run.db", writing=False)
        with _closed_on_error(database):
            return cls(directory, record, database, None)

    @classmethod
    def _start(cls, directory: Path, record: Record, lock: Lock) -> Self:
        database = Database(directory / "run.db", writing=True, configuration=fingerprint(record.config))
        with _closed_on_error(database):
            return cls(directory, record, database, lock)

    def close(self) -> None:
        """Let the files and the lock go. What was put since the last checkpoint is lost."""
        self._database.close()
        if self._lock:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def config(self) -> Config:
        return self.record.config

    @property
    def rounds(self) -> int:
        """Rounds completed."""
        return self._latest_metrics().rounds

    def metrics(self) -> dict[str, numpy.ndarray]:
        """`round` (int64, from 1) and every metric (float64, NaN where there is none), all [rounds]."""
        return self._latest_metrics().arrays()

    def add_metrics(self, number: int, values: Mapping[str, float]) -> None:
        """Complete a round, counted from 1, with at least one metric. ValueError unless it is the next one."""
        if not values:
            raise ValueError("values: got no metric, expected at least one")
        self._pending_metrics += self._metrics.add(number, values)

    def get_client(self, identifier: int, part: str) -> dict[str, numpy.ndarray] | None:
        """A part of a client's state, in arrays of the caller's own; None if there is none."""
        row = self._get(CLIENTS, (identifier, part))
        return None if row is None else load_record(row.data)

    def put_client(self, identifier: int, part: str, arrays: Mapping[str, numpy.ndarray]) -> None:
        """Replace a part of a client's state. The arrays are copied."""
        dense = {name: numpy.asarray(array, order="C") for name, array in arrays.items()}
        self._put(CLIENTS, (int(identifier), part), Row(save_record(dense)))

    def delete_client(self, identifier: int, part: str) -> None:
        self._put(CLIENTS, (int(identifier), part), None)

    def clients(self, part: str) -> list[int]:
        """The clients that have this part, ascending."""
        ids = set(self._database.client_ids(part))
        for (table, key), row in self._pending.items():
            if table is CLIENTS and key[1] == part:
                (ids.discard if row is None else ids.add)(int(key[0]))
        return sorted(ids)

    def get_tensor(self, name: str) -> numpy.ndarray | None:
        """A tensor of the global state, in an array of the caller's own; None if there is none."""
        row = self._get(TENSORS, (name,))
        if row is None:
            return None
        shape = [int(size) for size in row.shape.split(",") if size]
        return numpy.frombuffer(row.data, row.dtype).reshape(shape).copy()

    def put_tensor(self, name: str, array: numpy.ndarray) -> None:
        """Replace a tensor of the global state, a plain array of numbers or bools. The array is copied."""
        if name == MANIFEST or array.dtype.kind not in "biuf":
            raise ValueError(f"{name}: got dtype {array.dtype}, expected numbers, under another name than {MANIFEST}")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        self._put(TENSORS, (name,), Row(little.tobytes(), little.dtype.str, ",".join(map(str, array.shape))))

    @property
    def pending_bytes(self) -> int:
        """Bytes in memory that wait for the next checkpoint."""
        return self._pending_bytes

    def checkpoint(self) -> None:
        """Store everything put since the last one, in one transaction; then metrics.csv.

        InputError if the system refuses: then the last checkpoint stands, and what was put waits for the next.
        """
        if not (self._pending or self._pending_metrics):
            return
        self._database.write(self._pending, self._pending_metrics)
        self._pending, self._pending_metrics, self._pending_bytes = {}, [], 0
        write_atomically(self.directory / "metrics.csv", self._metrics.csv())

    def write_model(self, arrays: Mapping[str, numpy.ndarray]) -> None:
        """model.safetensors: the global model by parameter name."""
        dense = {name: numpy.asarray(array, order="C") for name, array in arrays.items()}
        write_atomically(self.directory / "model.safetensors", save_record(dense))

    def write_record(self, config_yaml: str) -> None:
        """Replace run.yaml when a run goes on under other versions or with what a resumed run may be given anew."""
        record = from_yaml(config_yaml)
        if fingerprint(record.config) != fingerprint(self.config):
            raise ValueError("config_yaml: is another configuration than the run's")
        write_atomically(self.directory / "run.yaml", config_yaml)
        self.record = record

    def _latest_metrics(self) -> Metrics:
        return self._metrics if self._lock else Metrics(self._database.metrics())

    def _get(self, table: Table, key: Key) -> Row | None:
        return self._pending[table, key] if (table, key) in self._pending else self._database.get(table, key)

    def _put(self, table: Table, key: Key, row: Row | None) -> None:
        before = self._pending.get((table, key))
        self._pending[table, key] = row
        self._pending_bytes += (len(row.data) if row else 0) - (len(before.data) if before else 0)


def read_record(directory: Path) -> Record:
    """What run.yaml says. InputError, one line, if the directory is no run or the file is damaged."""
    path = directory / "run.yaml"
    try:
        return from_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{directory}: is no run: it has no run.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


@contextmanager
def _released_on_error(lock: Lock) -> Iterator[None]:
    try:
        yield
    except BaseException:
        lock.release()
        raise


@contextmanager
def _closed_on_error(database: Database) -> Iterator[None]:
    try:
        yield
    except BaseException:
        database.close()
        raise
