"""The roofline picture of measured launches: python -m bench.roofline RESULTS.json PICTURE.png (or .svg, .pdf)

RESULTS.json is what `python -m pytest -m gpu bench/kernels bench/rounds --benchmark-json=RESULTS.json` leaves. A panel
per machine and precision: FLOP per byte that a launch must at least move against TFLOP/s achieved, and the two ceilings
measured in the same run. Launches that multiply nothing are not in it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedlps.errors import InputError
from fedlps.report import plot_style

TERA = 1e12
HEIGHT = 3.4  # inches of a row of panels
MARKERS = "osD^vPX*"


@dataclass(frozen=True)
class Point:
    """One launch: FLOP per byte; FLOP/s of ours, and of the best other (0: none was timed)."""

    series: str
    intensity: float
    ours: float
    other: float


@dataclass(frozen=True)
class Panel:
    """All launches of a machine in one precision. copy: bytes per second; product: FLOP/s."""

    title: str
    copy: float
    product: float
    points: Sequence[Point]


def read(text: str, name: str = "results") -> list[Panel]:
    """Panels of a benchmark's JSON. InputError, one line, if it is none or holds no launch that multiplies."""
    try:
        every = [entry["extra_info"] for entry in json.loads(text)["benchmarks"]]
        found: dict[str, list[tuple[float, float, Point]]] = {}
        for info in every:
            for one in info.get("comparisons", []):
                if one["operations"]:
                    title = f"{info['machine']}, {one['precision']}"
                    ceilings = one["ceilings"]
                    found.setdefault(title, []).append((ceilings["copy"], ceilings["product"], _point(info, one)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{name}: {type(error).__name__} {error}, expected the JSON of these benchmarks") from None
    if not found:
        raise InputError(f"{name}: got no launch that multiplies, expected results of products or steps")
    return [
        Panel(title, max(copy for copy, _, _ in own), max(product for _, product, _ in own), [one[2] for one in own])
        for title, own in found.items()
    ]


def picture(panels: Sequence[Panel]) -> Any:
    """A figure: panels two in a row, one legend above."""
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure = plot_style.figure(plot_style.WIDTH, HEIGHT * down)
    names = list(dict.fromkeys(point.series for panel in panels for point in panel.points))
    for place, panel in enumerate(panels):
        _draw(figure.add_subplot(down, across, place + 1), panel, names)
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    columns = plot_style.legend_columns(list(handles))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns)
    return figure


def _draw(axes: Any, panel: Panel, names: Sequence[str]) -> None:
    ridge = panel.product / panel.copy
    reach = [point.intensity for point in panel.points]
    low, high = min([*reach, ridge]) / 2, max([*reach, ridge]) * 2
    slope = [(x, min(panel.copy * x, panel.product) / TERA) for x in (low, ridge, high)]
    axes.plot(*zip(*slope, strict=True), color="black", label="ceiling: copying, then the largest product")
    middle = (low * ridge) ** 0.5
    told = {"textcoords": "offset points", "fontsize": plot_style.STYLE["legend.fontsize"]}
    axes.annotate(f"{panel.copy / TERA:.3g} TB/s", (middle, panel.copy * middle / TERA), xytext=(6, -8), **told)
    axes.annotate(f"{panel.product / TERA:.3g} TFLOP/s", slope[-1], xytext=(0, 4), ha="right", **told)
    for number, series in enumerate(names):
        points = [point for point in panel.points if point.series == series]
        if not points:
            continue
        look = {
            "color": plot_style.COLOURS[number % len(plot_style.COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": "none",
        }
        x = [point.intensity for point in points]
        axes.plot(x, [point.ours / TERA for point in points], label=series, **look)
        beside = [(point.intensity, point.other / TERA) for point in points if point.other]
        if beside:
            axes.plot(*zip(*beside, strict=True), fillstyle="none", **look)
    axes.plot([], [], color="black", marker="o", fillstyle="none", linestyle="none", label="hollow: the best other")
    axes.set(xscale="log", yscale="log", title=panel.title, xlim=(low, high))
    axes.set(xlabel="arithmetic intensity / (FLOP / byte)", ylabel="achieved / (TFLOP / s)")


def _point(info: dict[str, Any], one: dict[str, Any]) -> Point:
    series = ", ".join(info[key] for key in ("op", "direction") if key in info) or "whole step"
    rows = {name: row for name, row in one["rows"].items() if row["median"] > 0}
    ours, others = rows["ours"]["median"], [row["median"] for name, row in rows.items() if not name.startswith("ours")]
    work = one["operations"]
    return Point(series, work / one["moved_bytes"], work / ours, work / min(others) if others else 0.0)


def main(arguments: Sequence[str]) -> None:
    """Draw the picture of a file of results."""
    if len(arguments) != 2:
        raise InputError(f"roofline: got {len(arguments)} arguments, expected RESULTS.json PICTURE.png")
    results, target = map(Path, arguments)
    kind = target.suffix[1:]
    if kind not in plot_style.WITHOUT_DATE:
        raise InputError(f"picture: got {target.name}, expected a name in {', '.join(plot_style.WITHOUT_DATE)}")
    if not results.is_file():
        raise InputError(f"results: got {results}, expected a file")
    plot_style.check_matplotlib()
    from matplotlib import rc_context

    with rc_context(plot_style.STYLE):
        target.write_bytes(plot_style.drawn(picture(read(results.read_text(), results.name)), kind))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.exit(str(error))
