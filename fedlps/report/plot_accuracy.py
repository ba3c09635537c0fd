"""Accuracy against rounds, computation and time: the paper's Figures 3 and 4."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from fedlps.report.curves import Series, accuracy_curve
from fedlps.report.plot_style import COLOURS, DASHES, LEGEND_ROOM, WIDTH, figure, legend_columns

NAMES = {"test_last": "personal models", "test_global": "global model"}
SECONDS = ((1.0, "s"), (60.0, "min"), (3600.0, "h"))
LONG = 300  # of a unit, before the next takes over


def accuracy(lines: Sequence[Series]) -> Any:
    """A figure with three panels that share the accuracy axis; a line per series, the band its spread over seeds."""
    models = [NAMES.get(line.runs[0].accuracy, "") for line in lines]
    mixed = len(set(models)) > 1
    labels = [f"{line.label} ({model})" if mixed else line.label for line, model in zip(lines, models, strict=True)]
    names = [textwrap.fill(label, LEGEND_ROOM[1]) for label in labels]
    seeds = max(len(line.runs) for line in lines)
    curves = {
        metric: [accuracy_curve(line, metric) for line in lines]
        for metric in ("round", "flops_paper", "time_simulated")
    }
    seconds, unit = _time_unit(max(float(curve.x.max()) for curve in curves["time_simulated"]))
    exponent = 3 * (int(math.log10(max(float(curve.x.max()) for curve in curves["flops_paper"]) or 1.0)) // 3)
    axes = {
        "round": (1.0, "communication round"),
        "flops_paper": (10.0**exponent, f"computation, paper's count\n(10$^{{{exponent}}}$ FLOP, all clients)"),
        "time_simulated": (seconds, f"simulated time ({unit})"),
    }
    columns = legend_columns(names)
    keys = max(-(-len(lines) // columns), sum(name.count("\n") + 1 for name in names) if columns == 1 else 0)
    picture = figure(WIDTH, 2.35 + 0.17 * keys)
    panels = picture.subplots(1, 3, sharey=True)
    for panel, (metric, (scale, label)) in zip(panels, axes.items(), strict=True):
        for number, (name, curve) in enumerate(zip(names, curves[metric], strict=True)):
            colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
            alone = "o" if len(curve.x) == 1 else ""
            panel.plot(curve.x / scale, curve.mean, color=colour, linestyle=dash, marker=alone, label=name)
            if curve.deviation.any():
                low, high = curve.mean - curve.deviation, curve.mean + curve.deviation
                panel.fill_between(curve.x / scale, low, high, color=colour, alpha=0.2, linewidth=0)
        panel.set_xlabel(label)
        panel.set_xlim(left=0)
    panels[0].set_ylabel("test accuracy (%)" if mixed else f"test accuracy (%),\n{models[0]}")
    handles, texts = panels[0].get_legend_handles_labels()
    title = f"mean and standard deviation over up to {seeds} seeds" if seeds > 1 else None
    picture.legend(handles, texts, loc="outside upper center", ncols=columns, title=title)
    return picture


def _time_unit(longest: float) -> tuple[float, str]:
    """Seconds in the unit, and its name."""
    return next((entry for entry in SECONDS if longest / entry[0] <= LONG), SECONDS[-1])
