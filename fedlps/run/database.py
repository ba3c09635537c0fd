"""run.db: one connection, whole transactions, and rows that are either what was written or an error."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from math import isnan, nan
from pathlib import Path
from struct import pack

from fedlps.errors import InputError
from fedlps.run.format import (
    APPLICATION_ID,
    DIGEST_SIZE,
    MANIFEST,
    METRICS,
    PAGE_SIZE,
    SCHEMA,
    TABLES,
    TENSORS,
    VERSION,
    Key,
    Manifest,
    Row,
    Table,
    Total,
    digest,
)
from fedlps.run.values import show

BUSY_SECONDS = 30  # a reader holds its lock for one answer, a writer for one transaction
CACHE_KIB = 16384

CLIENT_IDS = "SELECT id FROM clients INDEXED BY clients_digests WHERE part = ? ORDER BY id, part"
ALL_METRICS = "SELECT round, name, value, digest FROM metrics NOT INDEXED ORDER BY rowid"

Metric = tuple[int, str, float]
"""Round, name, value; NaN where there is no value."""

SYSTEM = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "it may not be written",
    "SQLITE_CANTOPEN": "it cannot be opened",
    "SQLITE_PERM": "it cannot be opened",
    "SQLITE_AUTH": "it cannot be opened",
    "SQLITE_BUSY": "another process keeps it locked",
    "SQLITE_LOCKED": "another process keeps it locked",
    "SQLITE_IOERR": "the system cannot read or write it",
    "SQLITE_TOOBIG": "a value is larger than SQLite allows",
    "SQLITE_NOMEM": "there is not enough memory",
}


class DamagedRunError(InputError):
    """What is stored is not what was written. The message names file, table and row."""


class Database:
    """One connection to a run.db, which a writer creates, for `configuration`, where it is missing or empty.

    writing: the one writer, whose file is checked through and through when opened; otherwise a reader.
    InputError: not a run.db, another version, or the system refuses. DamagedRunError: damaged.
    """

    def __init__(self, path: Path, *, writing: bool, configuration: str = "") -> None:
        self._path = path
        self._seen: object = None  # the version of the file that was checked last
        self._manifest = Manifest.empty(configuration)
        with self._errors():
            self._connection = _connect(path, "rwc" if writing else "ro")
        try:
            with self._errors():
                self._set_up(writing)
            with self.view():
                pass  # which checks it
        except BaseException:
            self._connection.close()
            raise

    def _set_up(self, writing: bool) -> None:
        if writing and self._pragma("page_count") == 0:
            self._create()
        if (found := self._pragma("application_id")) != APPLICATION_ID:
            raise InputError(f"{self._path}: application_id: got {found}, expected {APPLICATION_ID}; no run of fedlps")
        if (found := self._pragma("user_version")) != VERSION:
            raise InputError(f"{self._path}: format version: got {found}, this version of fedlps reads {VERSION}")
        if writing:
            self._pragma("synchronous = FULL")
            self._pragma("journal_mode = DELETE")
            if (found := self._pragma("quick_check(1)")) != "ok":
                raise self._damaged(show(found))

    def _create(self) -> None:
        self._pragma(f"page_size = {PAGE_SIZE}")
        self._pragma("journal_mode = DELETE")
        self._pragma("synchronous = FULL")
        with self._transaction():
            for statement in SCHEMA:
                self._connection.execute(statement)
            self._pragma(f"application_id = {APPLICATION_ID}")
            self._pragma(f"user_version = {VERSION}")
            self._put_manifest()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def view(self) -> Iterator[Manifest]:
        """One state of the file, checked, that lasts as long as the context; its manifest. Not to be nested."""
        with self._errors():
            self._connection.execute("BEGIN")
            try:
                if (version := self._pragma("data_version")) != self._seen:
                    self._manifest = self._check()
                    self._seen = version
                yield self._manifest
            finally:
                self._connection.execute("ROLLBACK")

    def get(self, table: Table, key: Key) -> Row | None:
        """A row, checked. None: there is none."""
        with self.view():
            return self._get(table, key)

    def client_ids(self, part: str) -> list[int]:
        """The clients that have this part, ascending."""
        with self.view():
            return [identifier for (identifier,) in self._connection.execute(CLIENT_IDS, (part,))]

    def metrics(self) -> list[Metric]:
        """All metrics in the order in which they were written."""
        rows: list[Metric] = []
        total = Total()
        with self.view() as manifest, self._errors("table metrics"):
            for number, name, value, stored in self._connection.execute(ALL_METRICS):
                metric = (number, name, nan if value is None else value)
                if not isinstance(metric[2], float) or _metric_digest(metric) != stored:
                    raise self._damaged(_row(METRICS, (number, name)))
                rows.append(metric)
                total = total.plus((number, name), stored)
            if total != manifest.totals[METRICS.name]:
                raise self._damaged("table metrics: rows are missing")
        return rows

    def write(self, changes: Mapping[tuple[Table, Key], Row | None], metrics: Sequence[Metric]) -> None:
        """One transaction: rows put (or deleted: None), metrics added. All of it, or nothing."""
        with self.view() as manifest:
            totals, seen = dict(manifest.totals), self._seen
        with ThreadPoolExecutor() as pool:  # hashing lets other threads run
            digests = list(pool.map(_digest, changes.items()))
        # If anything interrupts this, even between the commit and the last line, the next view looks at the file again,
        # and the same may be written again.
        self._seen = None
        with self._errors(), self._transaction():
            for ((table, key), row), stored in zip(changes.items(), digests, strict=True):
                totals[table.name] = self._replace(table, key, row, stored, totals[table.name])
            for metric in metrics:
                stored = _metric_digest(metric)
                value = None if isnan(metric[2]) else metric[2]
                columns = {"round": metric[0], "name": metric[1], "value": value, "digest": stored}
                if self._connection.execute(METRICS.insert, columns).rowcount:  # else it is there: see above
                    totals[METRICS.name] = totals[METRICS.name].plus(metric[:2], stored)
            self._manifest = replace(manifest, totals=totals)
            self._put_manifest()
        self._seen = seen

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:  # SQLite itself rolls back on some errors, as on a full disk
                self._connection.execute("ROLLBACK")

    def _get(self, table: Table, key: Key) -> Row | None:
        where = _row(table, key)
        with self._errors(where):
            found = self._connection.execute(table.find, table.named(key)).fetchone()
            if found is None:
                return None
            rowid, stored = found
            loaded = self._connection.execute(table.load, (rowid,)).fetchone()
        if loaded is None or [type(column) for column in loaded] != [bytes, str, str]:
            raise self._damaged(where)
        row = Row(*loaded)
        if digest(table, key, row) != stored:
            raise self._damaged(where)
        return row

    def _put_manifest(self) -> None:
        key, row = (MANIFEST,), self._manifest.encode()
        self._replace(TENSORS, key, row, digest(TENSORS, key, row), Total())

    def _replace(self, table: Table, key: Key, row: Row | None, digested: bytes, total: Total) -> Total:
        """Put a row in the place of the one of its key, or only remove that one; the table's total afterwards."""
        for rowid, stored in self._connection.execute(table.find, table.named(key)).fetchall():
            self._connection.execute(table.delete, (rowid,))
            total = total.minus(key, stored)
        if row is None:
            return total
        self._connection.execute(table.insert, {**table.named(key), "digest": digested, **vars(row)})
        return total.plus(key, digested)

    def _check(self) -> Manifest:
        """The manifest, once every table's index is seen to be in order and to add up to it."""
        schema = self._connection.execute("SELECT sql FROM sqlite_master ORDER BY rowid").fetchall()
        if schema != [(statement,) for statement in SCHEMA]:
            raise self._damaged("the schema")
        if (row := self._get(TENSORS, (MANIFEST,))) is None:
            raise self._damaged(_row(TENSORS, (MANIFEST,)))
        manifest = Manifest.decode(row)
        for table in TABLES:
            if self._scan(table) != manifest.totals[table.name]:
                raise self._damaged(f"table {table.name}: rows are missing or changed")
        return manifest

    def _scan(self, table: Table) -> Total:
        total = Total()
        previous: Key = ()
        types = [kind for _, kind in table.key]
        with self._errors(f"table {table.name}"):
            for *columns, stored in self._connection.execute(table.scan):
                key = tuple(columns)
                in_order = [type(column) for column in key] == types and key > previous
                if not (in_order and isinstance(stored, bytes) and len(stored) == DIGEST_SIZE):
                    raise self._damaged(f"table {table.name}: its index")
                previous = key
                if key != (MANIFEST,):
                    total = total.plus(key, stored)
        return total

    def _pragma(self, text: str) -> object:
        row = self._connection.execute(f"PRAGMA {text}").fetchone()
        return row[0] if row else None

    def _damaged(self, what: str) -> DamagedRunError:
        return DamagedRunError(f"{self._path}: {what}: damaged; start the run anew with --overwrite")

    @contextmanager
    def _errors(self, where: str = "the file") -> Iterator[None]:
        """SQLite's errors as one line: either the system refuses, or the file is damaged."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorname", "")
            reason = next((text for name, text in SYSTEM.items() if code.startswith(name)), None)
            if reason:
                raise InputError(f"{self._path}: {reason} ({error})") from error
            raise self._damaged(f"{where} ({' '.join(str(error).split())})") from error
        except UnicodeDecodeError as error:
            raise self._damaged(f"{where} (text that is none)") from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None
    )
    try:
        for setting in (f"cache_size = -{CACHE_KIB}", "cell_size_check = ON", "trusted_schema = OFF"):
            connection.execute(f"PRAGMA {setting}")
    except sqlite3.OperationalError as error:
        connection.close()
        if mode != "ro" or getattr(error, "sqlite_errorname", "") != "SQLITE_READONLY_ROLLBACK":
            raise
        # its writer was killed within a transaction: only a writer may put back what stood before
        _connect(path, "rw").close()
        return _connect(path, "ro")
    return connection


def _digest(change: tuple[tuple[Table, Key], Row | None]) -> bytes:
    (table, key), row = change
    return b"" if row is None else digest(table, key, row)


def _metric_digest(metric: Metric) -> bytes:
    number, name, value = metric
    return digest(METRICS, (number, name), Row(b"" if isnan(value) else pack("<d", value)))


def _row(table: Table, key: Key) -> str:
    return f"table {table.name}, row {', '.join(f'{name} {show(part)}' for name, part in table.named(key).items())}"
