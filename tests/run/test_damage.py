"""A byte of run.db flips: every answer is right, or DamagedRunError (or InputError: another version, not a run)."""

from collections.abc import Callable
from pathlib import Path

import numpy
import pytest

from fedlps.errors import InputError
from fedlps.run.database import DamagedRunError
from fedlps.run.store import RunStore
from tests.run.sqlite import connect

CLIENTS = range(6)
PARTS = ("importance", "last")

Answers = dict[str, object]


def state(client: int, part: str, checkpoint: int) -> dict[str, numpy.ndarray]:
    start = 1000 * client + PARTS.index(part) / 2
    return {"values": numpy.arange(40 * (client + 1)) + start, "number": numpy.array(checkpoint)}


def play(store: RunStore, rounds: range) -> None:
    """Checkpoints that replace, grow, shrink and delete rows, so that old rows lie about in the file's free pages."""
    for number in rounds:
        for client in CLIENTS:
            for part in PARTS:
                store.put_client(client, part, state(client, part, number))
        store.delete_client(number % 6, "last")
        store.put_tensor("global", numpy.arange(12_000) + number)
        store.put_tensor("bandit", numpy.array([number]))
        store.add_metrics(number, {"loss": 1 / number, "accuracy": float("nan") if number % 2 else 50.0})
        store.checkpoint()


def answers(store: RunStore) -> Answers:
    found: Answers = {"rounds": store.rounds}
    for name, column in store.metrics().items():
        found[f"metrics {name}"] = column.tobytes()
    for name in ("global", "bandit", "none"):
        tensor = store.get_tensor(name)
        found[name] = None if tensor is None else (tensor.dtype.str, tensor.shape, tensor.tobytes())
    for part in PARTS:
        found[part] = store.clients(part)
        for client in range(7):
            arrays = store.get_client(client, part)
            found[f"{part} {client}"] = [(name, array.tobytes()) for name, array in sorted((arrays or {}).items())]
    return found


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, config_yaml: str) -> Path:
    directory = tmp_path_factory.mktemp("damage") / "run"
    with RunStore.create(directory, config_yaml) as store:
        play(store, range(1, 5))
    return directory


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    for name in ("run.yaml", "run.db"):
        (tmp_path / name).write_bytes((original / name).read_bytes())
    return tmp_path


def read_all(directory: Path) -> Answers:
    with RunStore.read(directory) as store:
        return answers(store)


def go_on(directory: Path) -> Answers:
    """Open, write more, close, read."""
    with RunStore.open(directory) as store:
        found = answers(store)
        play(store, range(5, 7))
    return {"before": found, "after": read_all(directory)}


def places(content: bytes, count: int, generator: numpy.random.Generator) -> list[int]:
    """Bytes of the file's header and the first page's; bytes that say something; some that do not."""
    header = generator.permutation(116)[: count // 3]
    used = numpy.flatnonzero(numpy.frombuffer(content, numpy.uint8))
    drawn = [*header, *generator.choice(used, size=count // 2), *generator.integers(len(content), size=count // 6)]
    return [int(place) for place in drawn]


@pytest.mark.parametrize(("ask", "count"), [(read_all, 300), (go_on, 40)])
def test_a_flipped_byte_is_never_a_wrong_answer(copy: Path, ask: Callable[[Path], Answers], count: int) -> None:
    database = copy / "run.db"
    content = database.read_bytes()
    right = ask(copy)
    generator = numpy.random.default_rng(count)
    noticed = 0
    chosen = places(content, count, generator)
    for place in chosen:
        for path in copy.iterdir():
            if path.name != "run.yaml":
                path.unlink()
        damaged = bytearray(content)
        damaged[place] ^= int(generator.integers(1, 256))
        database.write_bytes(damaged)
        try:
            found: Answers | InputError = ask(copy)
        except InputError as error:
            found = error
        if isinstance(found, InputError):
            noticed += 1
            assert "\n" not in str(found)
            # the file's header also says what it is, and that it may not be written
            assert isinstance(found, DamagedRunError) or place < 100, f"byte {place}: {found}"
        else:
            assert found == right, f"byte {place} of {len(content)} changed an answer"
    assert noticed > len(chosen) // 4


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda store: (store.get_client(3, "last") or {})["values"], 'table clients, row id 3, part "last"'),
        (lambda store: store.get_tensor("global"), 'table tensors, row name "global"'),
    ],
)
def test_damage_names_table_and_row(copy: Path, ask: Callable[[RunStore], numpy.ndarray], expected: str) -> None:
    database = copy / "run.db"
    content = database.read_bytes()
    with RunStore.read(copy) as store:
        value = ask(store)
    start, messages = 0, []
    while (place := content.find(value.tobytes()[:64], start)) >= 0:  # the row's, and old ones in free pages
        start = place + 1
        damaged = bytearray(content)
        damaged[place + 33] ^= 1
        database.write_bytes(damaged)
        with RunStore.read(copy) as store:
            try:
                numpy.testing.assert_array_equal(ask(store), value)
            except DamagedRunError as error:
                messages.append(str(error))
    assert messages == [f"{database}: {expected}: damaged; start the run anew with --overwrite"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("UPDATE metrics SET value = 3 WHERE round = 2 AND name = 'loss'", 'table metrics, row round 2, name "loss"'),
        (
            "UPDATE metrics SET value = NULL WHERE round = 2 AND name = 'loss'",
            'table metrics, row round 2, name "loss"',
        ),
        ("UPDATE metrics SET value = 0 WHERE value IS NULL", 'table metrics, row round 1, name "accuracy"'),
        ("DELETE FROM metrics WHERE round = 2", "table metrics: rows are missing or changed"),
        ("DELETE FROM clients WHERE id = 1", "table clients: rows are missing or changed"),
        ("UPDATE clients SET id = 9 WHERE id = 1 AND part = 'last'", "table clients: rows are missing or changed"),
        (
            "UPDATE clients SET part = 'best' WHERE id = 1 AND part = 'last'",
            "table clients: rows are missing or changed",
        ),
        (
            "INSERT INTO clients SELECT id, part, zeroblob(16), data FROM clients WHERE id = 1",
            "table clients: its index",
        ),
        ("UPDATE tensors SET shape = '1,12000' WHERE name = 'global'", 'table tensors, row name "global"'),
        ("UPDATE tensors SET dtype = '<u8' WHERE name = 'global'", 'table tensors, row name "global"'),
        ("DELETE FROM tensors WHERE name = 'bandit'", "table tensors: rows are missing or changed"),
        ("DELETE FROM tensors WHERE name = 'run.manifest'", 'table tensors, row name "run.manifest"'),
        ("DROP TABLE metrics", "the schema"),
        ("CREATE TABLE more(a)", "the schema"),
    ],
)
def test_rows_changed_behind_our_back_are_noticed(copy: Path, change: str, expected: str) -> None:
    connection = connect(copy)
    connection.execute(change)
    connection.close()
    for ask in (read_all, go_on):
        with pytest.raises(DamagedRunError) as error:
            ask(copy)
        assert expected in str(error.value)
        assert "\n" not in str(error.value)


def test_an_old_file_put_back_is_itself_right(copy: Path) -> None:
    """What the digests do not claim: a whole older file is a consistent, older state."""
    before, content = read_all(copy), (copy / "run.db").read_bytes()
    go_on(copy)
    (copy / "run.db").write_bytes(content)
    assert read_all(copy) == before
