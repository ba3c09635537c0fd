import numpy
import pytest

from fedlps.errors import InputError
from fedlps.run.record import Record, fingerprint, from_yaml, to_yaml
from tests.run.configured import configured

VERSIONS = {"fedlps": "0.1.0", "numpy": "2.0"}


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("lr=1e-9", "capability.levels=[1, 0.3333333333333333]", "ratio.rule=0.1", "threads=3", "checkpoint_every=2"),
        ("split.kind=lacking", "split.lacking=2", "split.samples=20", "model.hidden=[3, [4, null]]", "data.root='on'"),
    ],
)
def test_round_trip(overrides: tuple[str, ...]) -> None:
    config = configured(*overrides)
    text = to_yaml(config, VERSIONS, 'fedlps run "a b"')
    assert from_yaml(text) == (config, VERSIONS, 'fedlps run "a b"')
    assert fingerprint(from_yaml(text).config) == fingerprint(config)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("lr: 0.1", "lr: 0.1.1", "lr: got"),
        ("  lr: 0.1\n", "", "lr: is missing"),
        ("lr: 0.1", "lr: 0.1\n  lr: 0.2", "lr is given twice"),
        ("lr: 0.1", "lx: 0.1", "lx: unknown"),
        ("format: 1", "format: 2", "format: got 2"),
        ("command:", "commane:", "expected the keys"),
        ("  kind: pathological", "  kind: patological", "did you mean pathological"),
        ("rule: p-ucbv", "rule: [", "not readable as YAML in line"),
        ("fedlps: 0.1.0", "fedlps: 1", "versions: expected"),
        ("command: x", "command: 3", "command: got 3"),
        ("configuration:", "configuration: 3 #", "not readable"),
        ("seed: 0", "seed: \x00", "not readable"),
    ],
)
def test_a_damaged_run_yaml_is_one_line(before: str, after: str, expected: str) -> None:
    text = to_yaml(configured(), VERSIONS, "x")
    assert before in text
    with pytest.raises(InputError) as caught:
        from_yaml(text.replace(before, after, 1))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_flipped_byte_is_an_error_or_changes_the_fingerprint_or_nothing_that_counts() -> None:
    """Whatever else changes must be what a resumed run may be given anew, or words."""
    text = to_yaml(configured(), VERSIONS, "x").encode()
    expected = from_yaml(text.decode())
    generator = numpy.random.default_rng(0)
    for place in generator.integers(len(text), size=150):
        damaged = bytearray(text)
        damaged[place] ^= 1 << int(generator.integers(7))
        try:
            record: Record | InputError = from_yaml(damaged.decode())
        except InputError as error:
            record = error
        if isinstance(record, InputError):
            assert "\n" not in str(record)
        else:
            free = {"threads", "executor", "device", "memory", "checkpoint_seconds", "checkpoint_every"}
            same = record.config.model_dump(exclude=free) == expected.config.model_dump(exclude=free)
            assert same == (fingerprint(record.config) == fingerprint(expected.config))


def test_the_fingerprint_is_of_what_a_resumed_run_must_share() -> None:
    assert fingerprint(configured("threads=1", "executor=cpu")) == fingerprint(configured())
    assert len({fingerprint(configured(key)) for key in ("seed=0", "lr=0.2", "method.period=4", "ratio.rule=1")}) == 4
