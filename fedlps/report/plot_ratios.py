"""What the bandits decided: the ratio of units kept, over rounds, for each capability of the client's device."""

from pathlib import Path
from typing import Any

import numpy

from fedlps.errors import InputError
from fedlps.history import Participations, participations
from fedlps.report.curves import Series
from fedlps.report.plot_style import COLOURS, WIDTH, figure, fraction
from fedlps.run.store import RunStore

PER_ROW = 5
WINDOWS = 12  # in which decisions are averaged
DOTS = 800  # decisions in a panel; drawn ones of more, which would cover it


def ratios(line: Series) -> Any:
    """A figure with a panel per capability: decisions, the mean of all, the bound. InputError if none were noted."""
    noted = [_noted(run.directory) for run in line.runs]
    together = Participations(*(numpy.concatenate(columns) for columns in zip(*noted, strict=True)))
    if len(set(together.ratio.tolist())) == 1:
        raise InputError(f"{line.runs[0].directory}: every ratio is {together.ratio[0]:g}, so there are none to plot")
    levels = sorted(set(together.capability.tolist()), reverse=True)
    rows = -(-len(levels) // PER_ROW)
    picture = figure(WIDTH, 0.5 + 2.0 * rows)
    panels = picture.subplots(rows, min(PER_ROW, len(levels)), squeeze=False, sharex=True)
    for panel in panels.flat[len(levels) :]:
        panel.set_axis_off()
    for panel, level in zip(panels.flat, levels, strict=False):
        mine = together.capability == level
        _panel(panel, together.round[mine], together.ratio[mine], level, int(together.round.max()))
    for row in panels:
        row[0].set_ylabel("ratio of units kept")
    picture.supxlabel("communication round", fontsize=9)
    handles, texts = panels[0][0].get_legend_handles_labels()
    most = max(int((together.capability == level).sum()) for level in levels)
    title = _title(line) + (f" ({DOTS} of up to {most} rounds of clients shown)" if most > DOTS else "")
    picture.legend(handles, texts, loc="outside upper center", ncols=3, title=title)
    return picture


def _panel(panel: Any, rounds: numpy.ndarray, values: numpy.ndarray, level: float, last: int) -> None:
    shown = numpy.sort(numpy.random.default_rng(0).permutation(len(rounds))[:DOTS])
    panel.plot(rounds[shown], values[shown], ".", color=COLOURS[5], alpha=0.5, markersize=3, label="one client's round")
    edges = numpy.linspace(0, last, min(WINDOWS, last) + 1)
    window = numpy.searchsorted(edges, rounds, side="left") - 1
    there = numpy.unique(window)
    middles = (edges[there] + edges[there + 1]) / 2
    means = [values[window == number].mean() for number in there]
    marker = "o" if len(there) == 1 else ""
    panel.plot(middles, means, color=COLOURS[0], marker=marker, label="mean")
    panel.axhline(level, color=COLOURS[1], linestyle="--", linewidth=1, label="the device's capability")
    panel.set_title(f"capability {fraction(level)}")
    panel.set_ylim(0, 1.08 * max(level, float(values.max())))
    panel.set_xlim(0, last + 1)


def _noted(directory: Path) -> Participations:
    with RunStore.read(directory) as store:
        noted = participations(store)
    if not len(noted.round):
        raise InputError(
            f"{directory}: has no record of its clients' ratios: no round is stored, or it is of an old version"
        )
    return noted


def _title(line: Series) -> str:
    seeds = len(line.runs)
    return f"{line.label}, {seeds} seeds" if seeds > 1 else line.label
