"""How many bytes clients take on the device, from their counts alone; and which consecutive ones fit together."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedlps.engine.cuda.network import Network
from fedlps.engine.cuda.numbers import PLAIN, Numbers
from fedlps.errors import InputError
from fedlps_kernels.layout import Layout
from fedlps_kernels.places import Places, packed, padded, transposed

INDEX = 8  # bytes
NOTHING = Numbers(0.0, 0.0, 0.0, (), None)


@dataclass(frozen=True)
class Setting:
    """What beside counts decides how much memory clients take. Part of what a captured graph holds for good.

    batch: N, the samples at once. steps: rows of the tables of steps. dtype: of masters, gradients and statistics;
    store: of packs and activations. transposed: whether a second pack is made. shared_pulls: of each pull of the
    numbers, whether all clients have the same reference.
    """

    batch: int
    steps: int
    dtype: torch.dtype
    store: torch.dtype
    trains: bool = True
    transposed: bool = True
    numbers: Numbers = NOTHING
    shared_pulls: tuple[bool, ...] = ()
    scaled: bool = False
    history: bool = False


@dataclass(frozen=True)
class Need:
    """A flat buffer. entries: (C,) int64, of each client."""

    entries: torch.Tensor
    dtype: torch.dtype

    @property
    def bytes(self) -> torch.Tensor:
        """(C,) int64."""
        return self.entries * self.dtype.itemsize


def needs(network: Network, layout: Layout, counts: torch.Tensor, setting: Setting) -> dict[str, Need]:
    """Every buffer whose size depends on the clients. counts: (C, G) integers on the CPU."""
    clients = len(counts)
    sizes = _activations(network, counts, setting.batch)
    packs = _of_each(packed(layout, counts))
    found = {"packed": Need(packs, setting.store)}
    every = torch.ones(clients, dtype=torch.int64)
    found["statistics"] = Need(every * (2 * len(network.norms) * widest(network)), setting.dtype)
    if not setting.trains:
        for parity in (0, 1):
            turn = [size for number, size in enumerate(sizes) if number % 2 == parity]
            found[f"activations {parity}"] = Need(torch.stack([*turn, 0 * every]).amax(0), setting.store)
        found["compact"] = Need(every * int(layout.compact_sizes(counts).max()) if clients else every, setting.dtype)
        return found
    found |= {f"activations {number}": Need(size, setting.store) for number, size in enumerate(sizes)}
    for parity in (0, 1):  # nobody asks for the gradient of activation 0
        turn = [size for number, size in enumerate(sizes) if number and number % 2 == parity]
        found[f"gradients {parity}"] = Need(torch.stack([*turn, 0 * every]).amax(0), setting.store)
    found["masters"] = Need(every * layout.parameters, setting.dtype)
    found["gradient"] = Need(packs, setting.dtype)
    if setting.transposed:
        found["transposed"] = Need(_of_each(transposed(layout, counts)), setting.store)
    if setting.numbers.momentum:
        found["velocity"] = Need(every * layout.parameters, setting.dtype)
    if len(setting.numbers.passes) > 1:
        found["gradient of a pass"] = Need(packs, setting.dtype)
    for number in setting.numbers.teachers:
        found[f"outputs of pass {number}"] = Need(sizes[-1], setting.store)
    for number, shared in enumerate(setting.shared_pulls):
        first = (torch.arange(clients) == 0).to(torch.int64) if shared else every
        found[f"references {number}"] = Need(first * layout.parameters, setting.dtype)
    return found


def client_bytes(network: Network, layout: Layout, counts: torch.Tensor, setting: Setting) -> torch.Tensor:
    """(C,) int64, what each client adds: the buffers above, and a row of every table."""
    units = 8 * layout.units * setting.dtype.itemsize
    history = setting.steps * layout.units * 4 if setting.history else 0
    rows = 2 * layout.table.numel() * INDEX * 4 + units + history + setting.steps * 2 * INDEX * (setting.batch + 1)
    if setting.numbers.passes != PLAIN:
        rows += (setting.steps + 1) * len(setting.numbers.passes) * len(layout.groups) * 4
    every = torch.full((len(counts),), rows, dtype=torch.int64)
    return sum((need.bytes for need in needs(network, layout, counts, setting).values()), every)


def parts(each: torch.Tensor, budget: int | None, shared: int = 0) -> list[slice]:
    """Consecutive clients that fit into the budget, as many as do; None: all. each: (C,), their bytes; shared: beside.

    InputError, which names `memory`, where a single client does not fit.
    """
    clients = len(each)
    if budget is None:
        return [slice(0, clients)] if clients else []
    found, first, held = [], 0, shared
    for client, own in enumerate(each.tolist()):
        if shared + own > budget:
            raise InputError(
                f"memory: got {budget} bytes, but one client takes {shared + own} of a GPU; allowed: so many at least, "
                f"or auto"
            )
        if held + own > budget:
            found.append(slice(first, client))
            first, held = client, shared
        held += own
    return [*found, slice(first, clients)] if clients else []


def widest(network: Network) -> int:
    """Channels of the widest activation, padded."""
    return max(int(padded(torch.tensor(activation.channels))) for activation in network.activations)


def padded_channels(network: Network, counts: torch.Tensor) -> list[torch.Tensor]:
    """Of every activation, (C,) int64 each."""
    return [padded(activation.kept(counts.to(torch.int64))) for activation in network.activations]


def _activations(network: Network, counts: torch.Tensor, batch: int) -> list[torch.Tensor]:
    wide = padded_channels(network, counts)
    return [own * batch * activation.positions for own, activation in zip(wide, network.activations, strict=True)]


def _of_each(places: Places) -> torch.Tensor:
    """Entries of each client, whose first layer's weight begins them."""
    first = places.weight[:, 0]
    return torch.cat([first, torch.tensor([places.size])]).diff()
