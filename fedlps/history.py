"""What each client did in the rounds it took part in: kept with its state, for pictures of what its bandit decided."""

from typing import NamedTuple, Protocol

import numpy

from fedlps.recipe.federation import Federation, Floats, Outcome

PART, GROUPS = "history", "groups"


class Reader(Protocol):
    """Where a run's state is read (`fedlps.run.store.RunStore`)."""

    def clients(self, part: str) -> list[int]:
        """The clients that have a part, ascending."""

    def get_client(self, identifier: int, part: str) -> dict[str, numpy.ndarray] | None:
        """A part of a client's state."""


class Participations(NamedTuple):
    """A row for each time that a client took part, by client and then by round; all [N].

    round counts from 1. ratio: of the units it kept. capability: of its device in that round. counted: whether its
    result was used, as it neither diverged nor was lost.
    """

    client: numpy.ndarray
    round: numpy.ndarray
    ratio: Floats
    capability: Floats
    counted: numpy.ndarray


def note(federation: Federation, outcome: Outcome) -> None:
    """Store a round's participations, and once the sizes of the unit groups."""
    store, round_ = federation.store, outcome.round
    if store.get_tensor(GROUPS) is None:
        store.put_tensor(GROUPS, numpy.array([group.units for group in federation.program.groups], numpy.int64))
    columns = {
        "round": numpy.full(len(round_.clients), round_.number + 1),
        "ratio": round_.ratios,
        "capability": round_.capabilities,
        "counted": outcome.counted,
    }
    for position, client in enumerate(round_.clients.tolist()):
        before = store.get_client(client, PART) or {name: values[:0] for name, values in columns.items()}
        after = {name: numpy.append(before[name], values[position]) for name, values in columns.items()}
        store.put_client(client, PART, after)


def participations(store: Reader) -> Participations:
    """Everything noted in a run."""
    clients = store.clients(PART)
    parts = [part for client in clients if (part := store.get_client(client, PART)) is not None]
    columns = {
        name: numpy.concatenate([numpy.empty(0), *(part[name] for part in parts)])
        for name in Participations._fields[1:]
    }
    lengths = [len(part["round"]) for part in parts]
    return Participations(
        numpy.repeat(numpy.array(clients, numpy.int64), lengths),
        columns["round"].astype(numpy.int64),
        columns["ratio"],
        columns["capability"],
        columns["counted"].astype(numpy.bool_),
    )
