"""Which training samples go to which client, by one of four kinds of split (section 9 of the specification).

An assignment holds flat arrays for all clients together, nothing per client.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

import numpy
from numpy.typing import NDArray

from fedlps.errors import InputError
from fedlps.randomness import Purpose, stream

Indices = NDArray[numpy.int64]

REDRAWS = 1000  # of a whole Dirichlet assignment
LARGEST = 2**31 - 1  # positions are kept as int32


@dataclass(frozen=True)
class Argument:
    """One argument of a kind of split: its type, its least value (allowed itself unless `above`), its default."""

    type: type[int] | type[float]
    least: int
    above: bool = False
    required: bool = True
    default: int | None = None

    def check(self, name: str, value: object) -> float:
        """The value, or InputError if it is of another type or out of range. An int is fine for a float."""
        fits = not isinstance(value, bool) and isinstance(value, int if self.type is int else int | float)
        number = value if fits and isinstance(value, int | float) else math.nan
        if self.least <= number < math.inf and not (self.above and number == self.least):
            return number
        kind, bound = "a whole number" if self.type is int else "a number", "above" if self.above else "of at least"
        raise InputError(f"{name}: got {value!r}, expected {kind} {bound} {self.least}")


ARGUMENTS = {
    "pathological": {"shards_per_client": Argument(int, 1), "shard_size": Argument(int, 1)},
    "iid": {"samples": Argument(int, 1, required=False)},
    "dirichlet": {"alpha": Argument(float, 0, above=True), "min_samples": Argument(int, 0, required=False, default=10)},
    "lacking": {"lacking": Argument(int, 0), "samples": Argument(int, 1)},
}
"""The kinds of split and the arguments of each."""


@dataclass(frozen=True, eq=False)
class Supply:
    """Training samples (labels int64 [N]; for each class its samples, ascending) and the clients they are for."""

    labels: Indices
    of_class: list[Indices]
    clients: int
    seed: int
    share: bool


class Assignment(Protocol):
    """A kind of split, carried out."""

    def samples(self, client: int, rng: numpy.random.Generator, /) -> Indices:
        """One client's samples before they are shuffled; rng: the client's own stream, for kinds that draw from it."""

    def sizes(self) -> Indices:
        """Number of samples of each client, int64 [clients]."""

    def held(self, classes: Sequence[int]) -> list[int]:
        """Those of the given classes that clients hold; where clients draw their own, those of the first that does."""


def assign(kind: str, arguments: Mapping[str, object], supply: Supply) -> Assignment:
    """Carry out a split. InputError: unknown kind or argument, value out of range, too few shards or samples."""
    if kind not in ARGUMENTS:
        raise InputError(f"split.kind: unknown kind {kind!r}{_hint(kind, ARGUMENTS)}; there are {', '.join(ARGUMENTS)}")
    known = ARGUMENTS[kind]
    for name in arguments:
        if name not in known:
            raise InputError(
                f"split.{name}: no argument of split.kind={kind}{_hint(name, known)}; allowed: {', '.join(known)}"
            )
    values: dict[str, float] = {}
    for name, argument in known.items():
        if (value := arguments.get(name)) is None and argument.required:
            raise InputError(f"split.{name}: missing, split.kind={kind} needs {', '.join(known)}")
        if (value := argument.default if value is None else value) is not None:
            values[name] = argument.check(f"split.{name}", value)
    return _KINDS[kind](supply, values)


def by_class(labels: Indices, classes: int) -> list[Indices]:
    """For each class the indices of its samples, ascending."""
    bounds = numpy.cumsum(numpy.bincount(labels, minlength=classes))[:-1]
    return numpy.split(numpy.argsort(labels, kind="stable"), bounds)


@dataclass(frozen=True, eq=False)
class _Dealt:
    """Samples laid out in one order, of which every client has some runs, one behind the other.

    order: int32 [positions]. starts, lengths: int32 [clients, runs].
    """

    labels: Indices
    order: NDArray[numpy.int32]
    starts: NDArray[numpy.int32]
    lengths: NDArray[numpy.int32]

    def samples(self, client: int, _: numpy.random.Generator) -> Indices:
        runs = zip(self.starts[client], self.lengths[client], strict=True)
        return numpy.concatenate([self.order[start : start + length] for start, length in runs]).astype(numpy.int64)

    def sizes(self) -> Indices:
        sizes: Indices = self.lengths.sum(axis=1, dtype=numpy.int64)
        return sizes

    def held(self, classes: Sequence[int]) -> list[int]:
        changes = numpy.zeros(len(self.order) + 1, numpy.int64)
        numpy.add.at(changes, self.starts, 1)
        numpy.add.at(changes, self.starts + self.lengths, -1)
        dealt = self.order[numpy.cumsum(changes[:-1]) > 0]
        return _common(classes, self.labels[dealt])


@dataclass(frozen=True, eq=False)
class _Lacking:
    """Every client draws its own classes and, independently of the others, samples of each."""

    supply: Supply
    lacking: int
    per_class: int

    def classes(self, rng: numpy.random.Generator) -> Indices:
        """The classes that a client has, ascending: the first draw of its stream."""
        return numpy.sort(rng.permutation(len(self.supply.of_class))[self.lacking :])

    def samples(self, _: int, rng: numpy.random.Generator) -> Indices:
        drawn = [rng.permutation(self.supply.of_class[label])[: self.per_class] for label in self.classes(rng)]
        return numpy.concatenate(drawn)

    def sizes(self) -> Indices:
        classes = len(self.supply.of_class) - self.lacking
        return numpy.full(self.supply.clients, classes * self.per_class, numpy.int64)

    def held(self, classes: Sequence[int]) -> list[int]:
        if not classes:
            return []
        for client in range(self.supply.clients):
            if common := _common(classes, self.classes(stream(self.supply.seed, Purpose.SPLIT, client))):
                return common
        return []


def _pathological(supply: Supply, values: Mapping[str, float]) -> Assignment:
    """Shards of samples sorted by label; every client has some of them."""
    per_client, size = int(values["shards_per_client"]), int(values["shard_size"])
    total = len(supply.labels)
    needed, number = supply.clients * per_client, total // size
    if needed > number:
        raise InputError(
            f"split.shards_per_client: {supply.clients} clients x {per_client} = {needed} shards, but {total} training "
            f"samples make {number} shards of {size}"
        )
    drawn = stream(supply.seed, Purpose.SPLIT).permutation(number)[:needed].reshape(supply.clients, per_client)
    starts = (drawn * size).astype(numpy.int32)
    order = numpy.argsort(supply.labels, kind="stable").astype(numpy.int32)
    return _Dealt(supply.labels, order, starts, numpy.full_like(starts, size))


def _iid(supply: Supply, values: Mapping[str, float]) -> Assignment:
    """Consecutive pieces of a permutation, of several permutations where samples are shared."""
    total, clients = len(supply.labels), supply.clients
    samples = int(values.get("samples", total // clients))
    needed = clients * samples
    if samples == 0:
        raise InputError(f"clients: got {clients}, but there are {total} training samples; give split.samples to share")
    if needed > total and not supply.share:
        raise InputError(
            f"split.samples: {clients} clients x {samples} = {needed} samples, but there are {total} for training; "
            f"data.share=true lets clients share them"
        )
    if needed > LARGEST:
        raise InputError(f"split.samples: {clients} clients x {samples} = {needed} samples, allowed {LARGEST} in all")
    rng = stream(supply.seed, Purpose.SPLIT)
    order = numpy.empty(needed, numpy.int32)
    for start in range(0, needed, total):
        order[start : start + total] = rng.permutation(total)[: needed - start]
    starts = samples * numpy.arange(clients, dtype=numpy.int32)[:, None]
    return _Dealt(supply.labels, order, starts, numpy.full_like(starts, samples))


def _dirichlet(supply: Supply, values: Mapping[str, float]) -> Assignment:
    """Every class is cut into as many parts as there are clients, in proportions drawn for the class."""
    alpha, least = float(values["alpha"]), int(values["min_samples"])
    clients, total = supply.clients, len(supply.labels)
    if clients * least > total:
        raise InputError(
            f"split.min_samples: {clients} clients x {least} = {clients * least} samples, but there are {total} "
            f"for training"
        )
    rng = stream(supply.seed, Purpose.SPLIT)
    class_starts = numpy.cumsum([0, *(len(samples) for samples in supply.of_class)])
    for _ in range(REDRAWS):
        order, bounds = [], numpy.empty((len(supply.of_class), clients + 1), numpy.int32)
        for label, samples in enumerate(supply.of_class):
            order.append(rng.permutation(samples))
            parts = rng.dirichlet(numpy.full(clients, alpha))
            bounds[label, 0], bounds[label, -1] = 0, len(samples)
            bounds[label, 1:-1] = numpy.floor(numpy.cumsum(parts)[:-1] * len(samples))
        lengths = numpy.diff(bounds, axis=1).T
        smallest = int(lengths.sum(axis=1).min())
        if smallest >= least:
            starts = (bounds[:, :-1] + class_starts[:-1, None]).T.astype(numpy.int32)
            return _Dealt(supply.labels, numpy.concatenate(order).astype(numpy.int32), starts, lengths)
    raise InputError(
        f"split.min_samples: in {REDRAWS} draws with split.alpha={alpha} some of the {clients} clients always had "
        f"fewer than {least} samples (in the last, {smallest})"
    )


def _lacking(supply: Supply, values: Mapping[str, float]) -> Assignment:
    """Every client lacks some classes and has equally many samples of the others."""
    classes, lacking, samples = len(supply.of_class), int(values["lacking"]), int(values["samples"])
    if lacking >= classes:
        raise InputError(f"split.lacking: got {lacking}, allowed 0 to {classes - 1} of {classes} classes")
    per_class = samples // (classes - lacking)
    if per_class == 0:
        raise InputError(f"split.samples: got {samples}, expected at least 1 for each of {classes - lacking} classes")
    assignment = _Lacking(supply, lacking, per_class)
    short = [label for label, images in enumerate(supply.of_class) if len(images) < per_class]
    if held := assignment.held(short):
        raise InputError(
            f"split.samples: {samples} for {classes - lacking} classes = {per_class} of each, but class {held[0]} has "
            f"{len(supply.of_class[held[0]])} training samples"
        )
    return assignment


_KINDS: dict[str, Callable[[Supply, Mapping[str, float]], Assignment]] = {
    "pathological": _pathological,
    "iid": _iid,
    "dirichlet": _dirichlet,
    "lacking": _lacking,
}


def _common(classes: Sequence[int], others: Indices) -> list[int]:
    return [int(label) for label in numpy.intersect1d(classes, others)]


def _hint(name: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
