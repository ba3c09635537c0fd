"""The format of run.db: its tables, and what makes damage visible.

Every row carries a digest of its key and contents. That alone would not notice a row that vanished or an old one that
came back (a flipped page number is enough for both), so the keys and digests of each table are also counted and summed
in the *manifest*, a row of `tensors`, in the same transaction. Each table has one index, on key and digest: reading it
in order, which touches no data, and comparing with the manifest shows that every lookup through it will be right.
"""

import hashlib
import json
from dataclasses import dataclass

APPLICATION_ID = 0x0FED1950
VERSION = 2  # rises with what a run keeps, too: an older one could not be gone on with
PAGE_SIZE = 65536
DIGEST_SIZE = 16
MODULUS = 2 ** (8 * DIGEST_SIZE)
MANIFEST = "run.manifest"

SCHEMA = (
    "CREATE TABLE metrics(round INTEGER NOT NULL, name TEXT NOT NULL, value REAL, digest BLOB NOT NULL) STRICT",
    "CREATE UNIQUE INDEX metrics_digests ON metrics(round, name, digest)",
    "CREATE TABLE tensors(name TEXT NOT NULL, digest BLOB NOT NULL, dtype TEXT NOT NULL, shape TEXT NOT NULL,"
    " data BLOB NOT NULL) STRICT",
    "CREATE UNIQUE INDEX tensors_digests ON tensors(name, digest)",
    "CREATE TABLE clients(id INTEGER NOT NULL, part TEXT NOT NULL, digest BLOB NOT NULL, data BLOB NOT NULL) STRICT",
    "CREATE UNIQUE INDEX clients_digests ON clients(id, part, digest)",
)

Key = tuple[int | str, ...]


@dataclass(frozen=True)
class Row:
    """What a row holds beside key and digest. dtype, shape: a tensor's, as text; empty elsewhere."""

    data: bytes
    dtype: str = ""
    shape: str = ""


@dataclass(frozen=True)
class Table:
    """A table, the columns and types of its key, and its statements (`format` is where all of SQL's text is)."""

    name: str
    key: tuple[tuple[str, type], ...]
    scan: str  # key and digest of every row, from the index alone, in its order
    insert: str
    find: str = ""  # key -> rowid and digest, from the index alone
    load: str = ""  # rowid -> data, dtype, shape
    delete: str = ""  # rowid

    def named(self, key: Key) -> dict[str, int | str]:
        """The key's columns by name."""
        return {name: part for (name, _), part in zip(self.key, key, strict=True)}


METRICS = Table(
    "metrics",
    (("round", int), ("name", str)),
    scan="SELECT round, name, digest FROM metrics INDEXED BY metrics_digests ORDER BY round, name, digest",
    insert="INSERT OR IGNORE INTO metrics(round, name, value, digest) VALUES (:round, :name, :value, :digest)",
)
TENSORS = Table(
    "tensors",
    (("name", str),),
    scan="SELECT name, digest FROM tensors INDEXED BY tensors_digests ORDER BY name, digest",
    find="SELECT rowid, digest FROM tensors INDEXED BY tensors_digests WHERE name = :name",
    load="SELECT data, dtype, shape FROM tensors WHERE rowid = ?",
    insert="INSERT INTO tensors(name, digest, dtype, shape, data) VALUES (:name, :digest, :dtype, :shape, :data)",
    delete="DELETE FROM tensors WHERE rowid = ?",
)
CLIENTS = Table(
    "clients",
    (("id", int), ("part", str)),
    scan="SELECT id, part, digest FROM clients INDEXED BY clients_digests ORDER BY id, part, digest",
    find="SELECT rowid, digest FROM clients INDEXED BY clients_digests WHERE id = :id AND part = :part",
    load="SELECT data, '', '' FROM clients WHERE rowid = ?",
    insert="INSERT INTO clients(id, part, digest, data) VALUES (:id, :part, :digest, :data)",
    delete="DELETE FROM clients WHERE rowid = ?",
)
TABLES = (METRICS, TENSORS, CLIENTS)


def digest(table: Table, key: Key, row: Row) -> bytes:
    """BLAKE2b, 16 bytes, of a row: its table, key, type, shape and data."""
    hasher = hashlib.blake2b(json.dumps([table.name, *key, row.dtype, row.shape]).encode(), digest_size=DIGEST_SIZE)
    hasher.update(b"\0")  # in no JSON text, so that head and data cannot be taken for each other
    hasher.update(row.data)
    return hasher.digest()


@dataclass(frozen=True)
class Total:
    """The keys and digests of a table's rows: counted, hashed, and the hashes summed modulo 2^128."""

    count: int = 0
    hashes: int = 0

    def plus(self, key: Key, stored: bytes) -> "Total":
        """With a row of this key and digest."""
        return Total(self.count + 1, (self.hashes + _hash(key, stored)) % MODULUS)

    def minus(self, key: Key, stored: bytes) -> "Total":
        """Without it."""
        return Total(self.count - 1, (self.hashes - _hash(key, stored)) % MODULUS)


def _hash(key: Key, stored: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(repr(key).encode() + stored, digest_size=DIGEST_SIZE).digest(), "big")


@dataclass(frozen=True)
class Manifest:
    """run.db as a whole: the configuration's fingerprint, every table's total (without this row)."""

    configuration: str
    totals: dict[str, Total]

    @staticmethod
    def empty(configuration: str) -> "Manifest":
        return Manifest(configuration, {table.name: Total() for table in TABLES})

    def encode(self) -> Row:
        totals = {name: [total.count, f"{total.hashes:x}"] for name, total in self.totals.items()}
        fields = {"configuration": self.configuration, "totals": totals}
        return Row(json.dumps(fields).encode(), dtype="json")

    @staticmethod
    def decode(row: Row) -> "Manifest":
        fields = json.loads(row.data)
        totals = {name: Total(count, int(hashes, 16)) for name, (count, hashes) in fields["totals"].items()}
        return Manifest(fields["configuration"], totals)
