"""Compare an answer with the one wanted: a list of mismatches, empty if it is right."""

from typing import Any

import numpy
import numpy.typing


def exact(key: str, got: Any, want: Any) -> list[str]:
    """Integers, and nested lists of them, must be equal. Names the first difference."""
    got, want = _plain(got), _plain(want)
    if isinstance(got, list) and isinstance(want, list):
        if len(got) != len(want):
            return [f"{key}: got {len(got)} entries want {len(want)}"]
        for index, pair in enumerate(zip(got, want, strict=True)):
            if mismatch := exact(f"{key}[{index}]", *pair):
                return mismatch
        return []
    return [] if got == want else [f"{key}: got {got!r} want {want!r}"]


def close(key: str, got: numpy.typing.ArrayLike, want: numpy.typing.ArrayLike, tolerance: float) -> list[str]:
    """Floats must agree to a fraction of the wanted array's largest magnitude. Names the entry that is worst off."""
    got, want = numpy.asarray(got, numpy.float64), numpy.asarray(want, numpy.float64)
    if got.shape != want.shape:
        return [f"{key}: got shape {got.shape} want {want.shape}"]
    if not want.size:
        return []
    allowed = tolerance * numpy.abs(want).max()
    # A NaN on either side compares false and so is a mismatch.
    wrong = ~(numpy.abs(got - want) <= allowed)
    if not wrong.any():
        return []
    error = numpy.nan_to_num(numpy.abs(got - want), nan=numpy.inf)
    worst = numpy.unravel_index(numpy.argmax(numpy.where(wrong, error, -1)), want.shape)
    place = "".join(f"[{index}]" for index in worst)
    return [f"{key}{place}: got {got[worst]} want {want[worst]}; {wrong.sum()} entries off by more than {allowed:.1e}"]


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
