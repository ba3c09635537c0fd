"""Exact resume: however a run was stopped, going on gives the bits of a run that was not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest

import fedlps
from fedlps.engine.reference import ReferenceExecutor
from fedlps.errors import InputError
from fedlps.interruption import Interruption
from fedlps.launch import Run, prepare
from fedlps.models import ZOO, mlp
from fedlps.run.store import RunStore
from fedlps.simulation import Simulation
from tests.running import TINY, contents, tiny

ROUNDS = 4
SETTINGS = [
    ("fedlps", {}),
    ("fedlps", {"checkpoint_every": 1, "evaluation.every": 2, "faults.dropout": 0.3, "aggregation.noise": 0.01}),
    ("fedlps", {"importance.init": "random", "ratio.rule": "rcr", "momentum": 0.5}),
    ("fedavg", {"checkpoint_every": 1, "evaluation.every": 2}),
]


class StopError(Exception):
    """Ends a run from outside after some round."""


def stopped(directory: Path, after: int, overrides: dict[str, object], method: str) -> None:
    """A run that somebody's callback ends after a round; what is stored then is the checkpoints'."""

    def stop(number: int, metrics: object) -> None:
        if number == after:
            raise StopError

    with pytest.raises(StopError):
        tiny(directory, {**overrides, "checkpoint_every": 1}, method, on_round=stop)


@pytest.mark.parametrize(("method", "overrides"), SETTINGS)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, method, overrides) -> None:
    whole = tiny(tmp_path / "whole", overrides, method)
    stopped(tmp_path / "run", 2, overrides, method)
    assert contents(tmp_path / "run") != contents(whole.directory)
    run = tiny_resumed(tmp_path / "run")
    assert contents(run.directory) == contents(whole.directory)
    assert run.metrics["round"].tolist() == [1, 2, 3, 4]
    assert run.stopped_by is None


def tiny_resumed(directory: Path, **more) -> Run:
    """Go on with a run."""
    return fedlps.run(out=directory, resume=True, **more)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("call", "done"), [(5, []), (33, [1, 2, 3])])
def test_a_signal_in_the_middle_of_training(tmp_path, monkeypatch, number, call, done) -> None:
    """The round is thrown away, what was before it is stored, and going on repeats it."""
    slow = {"executor": "reference"}  # which Python can interrupt between two batches
    whole = tiny(tmp_path / "whole", slow)
    calls, batch = [0], ReferenceExecutor.batch

    def interrupted(self, indices, part):
        if part == "train":
            calls[0] += 1
            if calls[0] == call:
                signal.raise_signal(number)
        return batch(self, indices, part)

    with monkeypatch.context() as patched:
        patched.setattr(ReferenceExecutor, "batch", interrupted)
        run = tiny(tmp_path / "run", slow)
    assert run.stopped_by == number
    assert run.metrics["round"].tolist() == done
    assert calls[0] == call, "training ended at once"
    assert not (run.directory / "model.safetensors").exists()
    again = tiny_resumed(run.directory)
    assert again.stopped_by is None
    assert contents(run.directory) == contents(whole.directory)


def test_a_signal_outside_training_ends_the_run_after_the_round(tmp_path) -> None:
    whole = tiny(tmp_path / "whole")

    def ring(number: int, metrics: object) -> None:
        if number == 2:
            signal.raise_signal(signal.SIGTERM)

    run = tiny(tmp_path / "run", on_round=ring)
    assert run.stopped_by == signal.SIGTERM
    assert run.metrics["round"].tolist() == [1, 2]
    tiny_resumed(run.directory)
    assert contents(run.directory) == contents(whole.directory)


def test_a_signal_in_the_last_round_still_finishes(tmp_path) -> None:
    run = tiny(tmp_path / "run", on_round=lambda number, _: number == ROUNDS and signal.raise_signal(signal.SIGINT))
    assert run.stopped_by is None
    assert (run.directory / "model.safetensors").exists()


def test_resuming_a_finished_run_changes_nothing(tmp_path) -> None:
    run = tiny(tmp_path / "run")
    before = contents(run.directory)
    (run.directory / "model.safetensors").unlink()
    again = tiny_resumed(run.directory)
    assert contents(run.directory) == before
    assert again.metrics["round"].tolist() == [1, 2, 3, 4]


def test_what_may_be_given_anew(tmp_path) -> None:
    whole = tiny(tmp_path / "whole")
    stopped(tmp_path / "run", 1, {}, "fedlps")
    run = tiny_resumed(tmp_path / "run", overrides={"checkpoint_seconds": 1, "threads": 1, "lr": 0.1, "clients": 4})
    assert contents(run.directory) == contents(whole.directory)
    assert run.config.threads == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("rounds", 9), ("lr", 0.2), ("seed", 1), ("ratio.rule", 0.5), ("data.name", "mnist"), ("split.shard_size", 21)],
)
def test_other_keys_are_refused(tmp_path, key, value) -> None:
    stopped(tmp_path / "run", 1, {}, "fedlps")
    before = contents(tmp_path / "run")
    with pytest.raises(InputError, match=rf"^{key}: got .*{value}.*, but the run to resume has"):
        tiny_resumed(tmp_path / "run", overrides={key: value})
    assert contents(tmp_path / "run") == before


def test_other_data_or_another_model_is_refused(tmp_path, monkeypatch) -> None:
    stopped(tmp_path / "run", 1, {}, "fedlps")
    with monkeypatch.context() as patched:
        patched.setattr("fedlps.data.dataset.Dataset.fingerprint", lambda self: "another")
        with pytest.raises(InputError, match=r"^data: differs from the one the run was started with"):
            tiny_resumed(tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setitem(ZOO, "mlp", lambda shape, classes, hidden: mlp(shape, classes, [13]))
        with pytest.raises(InputError, match=r"^model: differs from the one the run was started with"):
            tiny_resumed(tmp_path / "run")
    with pytest.raises(InputError, match=r"^model: got a module, but the run to resume trains mlp"):
        tiny_resumed(tmp_path / "run", model=mlp((1, 8, 8), 10, [12]))


def test_changed_streams_are_refused(tmp_path, monkeypatch) -> None:
    stopped(tmp_path / "run", 1, {}, "fedlps")
    monkeypatch.setattr("fedlps.launch.streams_reproduce", lambda: "permutation differs")
    with pytest.raises(InputError, match="permutation differs"):
        tiny_resumed(tmp_path / "run")


KILLED = """
import sys
from fedlps.launch import prepare
from tests.running import TINY
given = {"resume": True}
if sys.argv[3] == "start":
    given = {"overrides": TINY | {"rounds": int(sys.argv[2]), "checkpoint_every": 1}}
with prepare(out=sys.argv[1], **given) as session:
    print("ready", flush=True)
    session.play()
"""


def kill_until_done(directory: Path, rounds: int, moments: list[float]) -> int:
    """Start or go on with a run in processes of their own, kill -9 each after its moment, and finish the run here.

    moments: seconds after the first round began; 0: at the first checkpoint. Returns how many were killed running.
    """
    killed = 0
    for moment in moments:
        how = "resume" if (directory / "run.yaml").exists() else "start"
        command = [sys.executable, "-c", KILLED, str(directory), str(rounds), how]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(moment)
            while not moment and process.poll() is None and not (directory / "metrics.csv").exists():
                time.sleep(0.01)
            killed += process.poll() is None
            process.kill()
    tiny_resumed(directory)
    return killed


@pytest.mark.slow
def test_kill_minus_nine_at_ten_random_moments(tmp_path) -> None:
    rounds, rng = 80, numpy.random.default_rng(7)
    whole = tiny(tmp_path / "whole", {"rounds": rounds, "checkpoint_every": 1})
    moments = [rng.uniform(0.001, 0.5) for _ in range(10)]
    assert kill_until_done(tmp_path / "run", rounds, moments) >= 5
    assert contents(tmp_path / "run") == contents(whole.directory)


def test_kill_minus_nine_once(tmp_path) -> None:
    whole = tiny(tmp_path / "whole", {"rounds": 15, "checkpoint_every": 1})
    assert kill_until_done(tmp_path / "run", 15, [0]) == 1
    assert contents(tmp_path / "run") == contents(whole.directory)


def test_flipped_bytes_of_a_run_are_an_error_or_harmless(tmp_path) -> None:
    """Reading or going on either says what is wrong or gives exactly what was written."""
    run = tiny(tmp_path / "run", {"rounds": 2})
    want, path = contents(run.directory), run.directory / "run.db"
    original, rng = path.read_bytes(), numpy.random.default_rng(3)
    messages = []
    for _ in range(40):
        damaged = bytearray(original)
        # every page has much that is free: aim at bytes that are used
        used = [position for position in rng.integers(len(original), size=200) if original[position]]
        for position in used[: int(rng.choice([1, 3]))]:
            damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            got = contents(run.directory)
        except InputError as error:
            messages.append(str(error))
            continue
        assert got == want
    assert len(messages) > 10
    assert not any("\n" in message for message in messages)
    path.write_bytes(original)
    assert contents(run.directory) == want


def test_going_on_with_a_damaged_run_is_an_error_or_exact(tmp_path) -> None:
    whole = tiny(tmp_path / "whole")
    stopped(tmp_path / "run", 2, {}, "fedlps")
    path, rng = tmp_path / "run" / "run.db", numpy.random.default_rng(5)
    kept = {name.name: name.read_bytes() for name in (tmp_path / "run").iterdir()}
    outcomes = set()
    for _ in range(12):
        for name, data in kept.items():
            (tmp_path / "run" / name).write_bytes(data)
        damaged = bytearray(kept["run.db"])
        used = [position for position in rng.integers(len(damaged), size=200) if damaged[position]]
        damaged[used[0]] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            run = tiny_resumed(tmp_path / "run")
            outcomes.add("finished")
            assert run.metrics["test_last"].tolist() == whole.metrics["test_last"].tolist()
            assert contents(tmp_path / "run") == contents(whole.directory)
        except InputError:  # at once, or where the damaged row is first read
            outcomes.add("error")
    assert outcomes == {"error", "finished"}


def test_a_run_asks_the_store_for_everything(tmp_path) -> None:
    """Nothing of a client lives in Python between rounds: the simulation can be made anew at every round."""
    whole = tiny(tmp_path / "whole")

    def stop(number: int, metrics: object) -> None:
        raise StopError

    with prepare(out=tmp_path / "run", overrides=TINY) as session:
        parts = session._simulation
        for _ in range(ROUNDS):
            simulation = Simulation(parts.federation, parts.method, parts.store)
            with pytest.raises(StopError):
                simulation.run(stop, Interruption())
        parts.store.checkpoint()
    got, want = contents(tmp_path / "run"), contents(whole.directory)
    assert {key: got[key] for key in got if key != "model"} == {key: want[key] for key in want if key != "model"}
    with RunStore.read(tmp_path / "run") as store:
        assert store.rounds == ROUNDS
