"""Which samples each client trains, validates and tests on: the four splits of section 9 of the specification.

The assignment of samples to clients is drawn at once and kept in a few flat arrays; what lies inside a client is drawn
from the client's own stream when it is first asked for, so the order of asking changes nothing.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy

from fedlps.data.assignment import Indices, Supply, assign, by_class
from fedlps.errors import InputError
from fedlps.randomness import Purpose, stream

CACHE_BYTES = 64 << 20  # of clients' indices; MNIST with 100 clients needs 1 MB


@dataclass(frozen=True, eq=False)
class ClientSamples:
    """One client's samples in their order: indices into the training set (train, validate) and the test set.

    All int64 and read-only.
    """

    train: Indices
    validate: Indices
    test: Indices

    def __post_init__(self) -> None:
        for indices in (self.train, self.validate, self.test):
            indices.setflags(write=False)

    @property
    def nbytes(self) -> int:
        return self.train.nbytes + self.validate.nbytes + self.test.nbytes


class Split:
    """The samples of every client.

    train_labels, test_labels: int64 [N], from 0 to classes - 1.
    kind, arguments: see `fedlps.data.assignment.ARGUMENTS`.
    test_per_class: test images of each class that the client holds.
    share: `iid` only: clients may share samples where there are too few.
    InputError, with the numbers: unknown kind or argument, value out of range, too few shards or samples, an empty
    training or validation set, too few test images of a class that a client holds.
    """

    def __init__(
        self,
        train_labels: Indices,
        test_labels: Indices,
        classes: int,
        kind: str,
        arguments: Mapping[str, object],
        clients: int,
        test_per_class: int,
        seed: int,
        share: bool = False,
    ) -> None:
        if clients < 1:
            raise InputError(f"clients: got {clients}, expected at least 1")
        if test_per_class < 1:
            raise InputError(f"split.test_per_class: got {test_per_class}, expected at least 1")
        self.clients = clients
        self.test_per_class = test_per_class
        self.seed = seed
        self._labels = train_labels
        self._test_of_class = by_class(test_labels, classes)
        supply = Supply(train_labels, by_class(train_labels, classes), clients, seed, share)
        self._assignment = assign(kind, arguments, supply)
        self._check_sizes()
        self._check_test_images()
        self._cache: OrderedDict[int, ClientSamples] = OrderedDict()
        self._cached_bytes = 0

    def client(self, client: int) -> ClientSamples:
        """The samples of one client, 0 to clients - 1."""
        if not 0 <= client < self.clients:
            raise InputError(f"client: got {client}, allowed 0 to {self.clients - 1}")
        if client in self._cache:
            self._cache.move_to_end(client)
            return self._cache[client]
        samples = self._draw(client)
        self._cache[client] = samples
        self._cached_bytes += samples.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return samples

    def classes(self, client: int) -> Indices:
        """The classes that a client has training samples of, ascending."""
        return numpy.unique(self._labels[self.client(client).train])

    def _draw(self, client: int) -> ClientSamples:
        rng = stream(self.seed, Purpose.SPLIT, client)
        samples = rng.permutation(self._assignment.samples(client, rng))
        cut = training_part(len(samples))
        test = [
            rng.permutation(self._test_of_class[label])[: self.test_per_class]
            for label in numpy.flatnonzero(numpy.bincount(self._labels[samples]))
        ]
        return ClientSamples(samples[:cut], samples[cut:], rng.permutation(numpy.concatenate(test)))

    def _check_sizes(self) -> None:
        sizes = self._assignment.sizes()
        smallest = int(sizes.argmin())
        count = int(sizes[smallest])
        train = training_part(count)
        if train == 0 or train == count:
            raise InputError(
                f"split: client {smallest} has {count} samples, {train} to train and {count - train} to validate; "
                f"each needs at least 1, so a client at least 2"
            )

    def _check_test_images(self) -> None:
        short = [label for label, images in enumerate(self._test_of_class) if len(images) < self.test_per_class]
        if held := self._assignment.held(short):
            raise InputError(
                f"split.test_per_class: got {self.test_per_class}, but class {held[0]} has "
                f"{len(self._test_of_class[held[0]])} test images"
            )


def training_part(count: int) -> int:
    """How many of a client's samples are for training; the rest are for validation."""
    return int(numpy.floor(0.9 * count + 1e-9))
