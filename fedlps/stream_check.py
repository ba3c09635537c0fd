"""Whether this numpy draws what the package was made with.

numpy keeps its bit generators fixed, but not every method of `Generator`. A run that is resumed under other draws would
not be the same run, so the streams are compared with recorded ones at start-up.
"""

import json
from pathlib import Path

import numpy

from fedlps.randomness import stream

RECORDED = Path(__file__).with_name("streams.json")


def draws(seed: int, purpose: int, ids: tuple[int, ...]) -> dict[str, numpy.ndarray]:
    """One draw of every kind that a run makes, in a fixed order from one stream."""
    rng = stream(seed, purpose, *ids)
    return {
        "permutation_10": rng.permutation(10),
        "then_random_3": rng.random(3),
        "then_integers_5_of_100": rng.integers(100, size=5),
        "then_uniform_3": rng.uniform(-1, 1, 3),
        "then_normal_3": rng.normal(0, 1, 3),
        "then_dirichlet_4": rng.dirichlet([0.5] * 4),
    }


def reproduces(got: numpy.ndarray, recorded: numpy.ndarray) -> bool:
    """Whether a draw is the recorded one: integers exactly, floats to 1e-9, as C libraries' log and exp may differ."""
    if got.shape != recorded.shape:
        return False
    if got.dtype.kind == "i":
        return numpy.array_equal(got, recorded)
    return numpy.allclose(got, recorded, rtol=0, atol=1e-9)


def streams_reproduce(recorded: Path = RECORDED) -> str | None:
    """None if every recorded draw comes out here, else one line that says which does not. Takes about a millisecond."""
    for case in json.loads(recorded.read_text())["want"]:
        seed, purpose, ids = case["seed"], case["purpose"], tuple(case["ids"])
        for name, got in draws(seed, purpose, ids).items():
            if not reproduces(got, numpy.asarray(case[name])):
                return (
                    f"stream(seed={seed}, purpose={purpose}, ids={ids}): {name} differs from the recorded draw "
                    f"under numpy {numpy.__version__}"
                )
    return None
