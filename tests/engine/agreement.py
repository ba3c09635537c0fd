"""When two executors' answers agree: to a fraction of the largest entry, decisions exactly, or bit for bit."""

import numpy
import torch

from fedlps.engine.result import Evaluation, LocalResult

TOLERANCE = 1e-12  # in float64


def close(name: str, got, want, tolerance: float) -> None:
    """Same shape and dtype; NaN where wanted; errors of at most this fraction of the largest finite entry."""
    got, want = numpy.asarray(got), numpy.asarray(want)
    assert got.shape == want.shape, f"{name}: got shape {got.shape}, want {want.shape}"
    assert got.dtype == want.dtype, f"{name}: got {got.dtype}, want {want.dtype}"
    finite = numpy.isfinite(want)
    assert numpy.array_equal(got[~finite], want[~finite], equal_nan=True), f"{name}: not finite where wanted"
    if finite.any():
        errors, largest = abs(got[finite] - want[finite]), abs(want[finite]).max()
        assert (errors <= tolerance * largest).all(), f"{name}: off by {errors.max():.3g}, largest entry {largest:.3g}"


def agree(got: LocalResult, want: LocalResult, tolerance: float = TOLERANCE) -> None:
    """Kept units, counts, masks and numbers of samples exactly, values to the tolerance.

    Of a job that diverged only when it did is compared: what it leaves is whatever was last.
    """
    assert got.diverged.tolist() == want.diverged.tolist()
    assert got.seen.tolist() == want.seen.tolist()
    assert got.probes.keys() == want.probes.keys()
    for array, wanted in ((got.seen, want.seen), (got.hits, want.hits), (got.diverged, want.diverged)):
        assert array.dtype == wanted.dtype
    assert same(got.submodels.counts, want.submodels.counts), "counts"
    rows = [row for row, diverged in enumerate(want.diverged) if not diverged]
    if len(rows) == len(want.diverged):
        close("parameters", got.submodels.parameters, want.submodels.parameters, tolerance)
    for row in rows:
        assert same(got.submodels.kept[row], want.submodels.kept[row]), f"kept units of job {row}"
        assert got.hits[row] == want.hits[row], f"hits of job {row}"
        close(f"parameters of job {row}", got.submodels.parameters[row], want.submodels.parameters[row], tolerance)
        close(f"redundancy of job {row}", got.redundancy[row], want.redundancy[row], tolerance)
        close(f"loss of job {row}", got.losses[row], want.losses[row], tolerance)
        for name in want.probes:
            agree_on_probe(name, row, got.probes[name][row], want.probes[name][row], tolerance)


def agree_on_probe(name: str, row: int, got, want, tolerance: float) -> None:
    """One probe of one job."""
    where = f"probe {name} of job {row}"
    if name == "kept":
        assert len(got) == len(want), where
        assert all(same(own, wanted) for own, wanted in zip(got, want, strict=True)), where
    elif name == "mask":
        assert same(got, want), where
    else:
        close(where, got, want, tolerance)


def agree_on_evaluation(got: Evaluation, want: Evaluation, tolerance: float = TOLERANCE) -> None:
    """The same samples are hit, losses to the tolerance."""
    assert [hits.tolist() for hits in got.hits] == [hits.tolist() for hits in want.hits]
    assert all(hits.dtype == numpy.bool_ for hits in got.hits)
    close("losses", got.losses, want.losses, tolerance)


def same(got: torch.Tensor, want: torch.Tensor) -> bool:
    """The same bits, dtype and shape."""
    return got.dtype == want.dtype and got.shape == want.shape and got.numpy().tobytes() == want.numpy().tobytes()


def bits(result: LocalResult, row: int) -> dict[str, object]:
    """All that a result says of one job, as bytes and numbers."""
    size = result.submodels.parameters.shape[1]
    while size and not result.submodels.parameters[row, size - 1]:
        size -= 1  # zeros up to the largest submodel of the plan
    told = {
        "parameters": result.submodels.parameters[row, :size], "kept": result.submodels.kept[row],
        "redundancy": result.redundancy[row],
        **{f"probe {name}": values[row] for name, values in result.probes.items()},
    }  # fmt: skip
    numbers = {name: getattr(result, name)[row].tobytes() for name in ("losses", "hits", "seen", "diverged")}
    return {name: _bytes(values) for name, values in told.items()} | numbers


def _bytes(values) -> object:
    if isinstance(values, list):
        return [_bytes(value) for value in values]
    return values.numpy().tobytes() if isinstance(values, torch.Tensor) else values
