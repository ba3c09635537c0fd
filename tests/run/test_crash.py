"""kill -9 at any moment: what is found is one whole checkpoint, at least the last one that was acknowledged."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy

from fedlps.run.store import RunStore

WRITER = """
import sys
from pathlib import Path
import numpy
from fedlps.run.store import RunStore

with RunStore.open(Path(sys.argv[1])) as store:
    for number in range(store.rounds + 1, 100_000):
        for client in range(20):
            store.put_client(client, "last", {"number": numpy.full(500 * (1 + (client + number) % 9), number)})
        store.put_tensor("global", numpy.full(30_000, number))
        store.add_metrics(number, {"number": number})
        store.checkpoint()
        print(number, flush=True)
"""


def assert_one_checkpoint(store: RunStore) -> int:
    """Everything in the store says the same round; which one."""
    number = store.rounds
    assert list(store.metrics()["number"] if number else []) == list(range(1, number + 1))
    expected = [number] if number else []
    tensor = store.get_tensor("global")
    assert list(numpy.unique([] if tensor is None else tensor)) == expected
    for client in range(20):
        arrays = store.get_client(client, "last")
        assert list(numpy.unique(arrays["number"] if arrays else [])) == expected
    return number


def test_killed_at_ten_random_moments(directory: Path, config_yaml: str) -> None:
    RunStore.create(directory, config_yaml).close()
    generator = random.Random(0)  # noqa: S311
    interrupted = 0
    for _ in range(10):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        time.sleep(generator.uniform(0, 0.04))
        writer.kill()
        acknowledged = max(acknowledged, *map(int, writer.stdout.read().split()), 0)
        writer.wait()
        interrupted += (directory / "run.db-journal").exists()
        with RunStore.read(directory) as store:
            assert assert_one_checkpoint(store) in (acknowledged, acknowledged + 1)
        with RunStore.open(directory) as store:
            assert assert_one_checkpoint(store) in (acknowledged, acknowledged + 1)
    assert interrupted, "no kill came within a transaction, so this tested little"


def test_a_reader_sees_the_last_checkpoint_of_a_run_killed_within_the_next(directory: Path, config_yaml: str) -> None:
    with RunStore.create(directory, config_yaml) as store:
        for client in range(20):
            store.put_client(client, "last", {"number": numpy.full(50_000, 1)})
        store.put_tensor("global", numpy.ones(3))
        store.add_metrics(1, {"number": 1})
        store.checkpoint()
    code = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1] + "/run.db", isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN")
connection.execute("UPDATE clients SET data = zeroblob(length(data))")
os.kill(os.getpid(), 9)
"""
    content = (directory / "run.db").read_bytes()
    subprocess.run([sys.executable, "-c", code, str(directory)], check=False)
    assert (directory / "run.db-journal").exists()
    assert (directory / "run.db").read_bytes() != content
    with RunStore.read(directory) as store:
        assert assert_one_checkpoint(store) == 1
