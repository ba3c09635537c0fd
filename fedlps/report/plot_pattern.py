"""What each client keeps: clients by capability, units by how many clients keep them; a panel per layer."""

from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from fedlps.errors import InputError
from fedlps.history import GROUPS, participations
from fedlps.report.plot_style import WIDTH, figure, fraction, shades
from fedlps.run.store import RunStore

PER_ROW = 7
FINE = 256  # units from which on a unit is narrower than a dot, so that neighbours must be mixed
MOST = 200  # clients in a picture; evenly spaced ones of more

Kept = list[NDArray[numpy.bool_]]


def pattern(directory: Path) -> Any:
    """A figure of the clients' latest personal models. InputError if the run has none."""
    kept, capabilities, clients = patterns(directory)
    levels = sorted(set(capabilities.tolist()), reverse=True)
    colours = numpy.array([shade[:3] for shade in shades(len(levels))])
    level_of = numpy.array([levels.index(value) for value in capabilities.tolist()])
    rows = -(-len(kept) // PER_ROW)
    columns = -(-len(kept) // rows)
    picture = figure(WIDTH, 0.5 + (2.6 if rows == 1 else 2.0 * rows))
    widths = [max(8.0, len(layer[0]) ** 0.5) for layer in kept] if rows == 1 else None
    panels = picture.subplots(rows, columns, squeeze=False, sharey=True, width_ratios=widths)
    for panel in panels.flat[len(kept) :]:
        panel.set_axis_off()
    for number, (panel, layer) in enumerate(zip(panels.flat, kept, strict=False), start=1):
        order = numpy.argsort(-layer.sum(axis=0), kind="stable")
        image = numpy.where(layer[:, order, None], colours[level_of][:, None], 1.0)
        smooth = "antialiased" if layer.shape[1] > FINE else "nearest"
        panel.imshow(image, aspect="auto", extent=(0, layer.shape[1], len(layer), 0), interpolation=smooth)
        panel.grid(visible=False)
        panel.set_title(f"layer {number}\n{layer.shape[1]} units")
        _separate(panel, level_of, levels)
    for row in panels:
        row[0].set_ylabel("clients, by capability")
    picture.supxlabel("units, those kept by most clients first (coloured: kept)", fontsize=9)
    shown = f"{len(level_of)} of {clients} clients" if clients > len(level_of) else f"{clients} clients"
    picture.suptitle(f"{directory.name}: {shown}, each as it was when it last trained", fontsize=9)
    return picture


def patterns(directory: Path) -> tuple[Kept, NDArray[numpy.float64], int]:
    """Per layer bool [clients shown, units], their capabilities [clients shown], and how many clients there are.

    Clients are in descending order of capability and then of units kept. InputError if there is nothing to see.
    """
    with RunStore.read(directory) as store:
        groups, clients = store.get_tensor(GROUPS), store.clients("last")
        if groups is None or not clients:
            method = store.config.method.name
            raise InputError(
                f"{directory}: has no personal submodels, so no pattern to plot: {method} trains none, no round is "
                f"stored yet, or the run is of an old version"
            )
        noted = participations(store)
        trained = [client for client in clients if (noted.counted & (noted.client == client)).any()]
        capability = {
            client: float(noted.capability[noted.counted & (noted.client == client)][-1]) for client in trained
        }
        shares = {client: float(noted.ratio[noted.counted & (noted.client == client)][-1]) for client in trained}
        order = sorted(trained, key=lambda client: (-capability[client], -shares[client], client))
        places = numpy.unique(numpy.linspace(0, len(order) - 1, min(MOST, len(order))).round().astype(int))
        shown = [order[place] for place in places]
        kept = [numpy.zeros((len(shown), units), numpy.bool_) for units in groups.tolist()]
        edges = numpy.cumsum([0, *groups.tolist()])
        for row, client in enumerate(shown):
            model = store.get_client(client, "last") or {}
            for layer, first, count in zip(kept, edges, model["counts"].tolist(), strict=False):
                layer[row, model["kept"][first : first + count]] = True
    return kept, numpy.array([capability[client] for client in shown]), len(trained)


def _separate(panel: Any, level_of: NDArray[Any], levels: list[float]) -> None:
    """Lines between capabilities, and their names at the side."""
    present = numpy.unique(level_of)
    starts = numpy.searchsorted(level_of, present)
    ends = numpy.append(starts[1:], len(level_of))
    for start in starts[1:]:
        panel.axhline(start, color="black", linewidth=0.6)
    panel.set_yticks((starts + ends) / 2, [fraction(levels[number]) for number in present])
    panel.tick_params(left=False)
