"""Streams: named, independent, and the ones the package was recorded with."""

import json
import subprocess
import sys

import numpy
import pytest

from fedlps import stream_check
from fedlps.randomness import Purpose, stream
from fedlps.stream_check import RECORDED, draws, streams_reproduce


def test_a_stream_is_the_philox_generator_of_its_name():
    sequence = numpy.random.SeedSequence(7, spawn_key=(5, 3, 9))
    want = numpy.random.Generator(numpy.random.Philox(sequence)).random(4)
    numpy.testing.assert_array_equal(stream(7, Purpose.BATCHES, 3, 9).random(4), want)


def test_asking_again_starts_afresh_and_numpy_integers_are_ids_too():
    first = stream(0, Purpose.SPLIT, 1)
    first.random(100)
    numpy.testing.assert_array_equal(
        stream(0, Purpose.SPLIT, 1).random(3), stream(0, Purpose.SPLIT, numpy.int64(1)).random(3)
    )


def test_different_names_are_different_streams():
    names = [(0, 1), (0, 1, 0), (0, 1, 1), (0, 2), (1, 1), (0, 5, 0, 1), (0, 5, 1, 0)]
    assert len({stream(*name).random() for name in names}) == len(names)


def test_the_purposes_are_the_bound_numbers():
    bound = ["DIGITS_DIVISION", "SPLIT", "INITIAL_PARAMETERS", "CAPABILITY", "SELECTION", "BATCHES", "RATIO",
             "INITIAL_IMPORTANCE", "RANDOM_PATTERN", "FAULTS", "AGGREGATE_NOISE"]  # fmt: skip
    assert [Purpose(number).name for number in range(11)] == bound
    assert Purpose.METHOD == 100


def test_the_recorded_streams_come_out_here():
    assert streams_reproduce() is None


@pytest.mark.parametrize("name", sorted(draws(0, 1, ())))
def test_a_draw_that_differs_is_named_with_its_stream_and_numpy(tmp_path, name):
    recorded = json.loads(RECORDED.read_text())
    recorded["want"][3][name][0] += 1e-6 if isinstance(recorded["want"][3][name][0], float) else 1
    changed = tmp_path / "streams.json"
    changed.write_text(json.dumps(recorded))
    reason = streams_reproduce(changed)
    case = recorded["want"][3]
    assert reason is not None
    assert "\n" not in reason
    assert f"stream(seed={case['seed']}, purpose={case['purpose']}, ids={tuple(case['ids'])}): {name} differs" in reason
    assert numpy.__version__ in reason


def test_a_generator_that_draws_otherwise_is_found(monkeypatch):
    monkeypatch.setattr(stream_check, "stream", lambda *_: numpy.random.default_rng(0))
    assert "permutation_10 differs" in (streams_reproduce() or "")


def test_the_check_needs_no_torch():
    code = "import sys, fedlps.stream_check, fedlps.bandit, fedlps.cost; print('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"
