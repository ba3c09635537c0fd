"""How all pictures look: legible at half a page, told apart without colour vision, the same bytes for the same runs."""

from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from typing import Any

from fedlps.errors import InputError

WIDTH = 7.0  # inches: a page between its margins
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
DASHES = ("-", "--", ":", "-.")
LEGEND_ROOM = {3: 28, 2: 46, 1: 100}  # columns of a legend -> letters of a label
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text that can be searched and edited
    "svg.fonttype": "none",  # text, not outlines
    "svg.hashsalt": "fedlps",
}
WITHOUT_DATE = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


def check_matplotlib() -> None:
    """InputError, with what to do, if pictures cannot be drawn here."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError("plot: matplotlib is not installed: pip install 'fedlps[plot]'") from None


def figure(width: float, height: float) -> Any:
    """An empty figure in inches, that lays itself out; it belongs to no window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def drawn(picture: Any, kind: str) -> bytes:
    """A figure as a file's bytes. kind: png, svg or pdf."""
    content = BytesIO()
    picture.savefig(content, format=kind, metadata=WITHOUT_DATE[kind])
    return content.getvalue()


def legend_columns(labels: Sequence[str]) -> int:
    """Columns of a legend above the panels, as many as the longest label leaves room for."""
    longest = max(map(len, labels))
    return next(columns for columns, room in LEGEND_ROOM.items() if longest <= room or columns == 1)


def shades(count: int) -> list[Any]:
    """Colours in an order that is seen without colour vision, dark to light, none too light for white paper."""
    from matplotlib import colormaps

    return [colormaps["cividis"](0.82 * number / max(1, count - 1)) for number in range(count)]


def fraction(value: float) -> str:
    """A capability as people write it: 1, 1/2, 1/16, or digits."""
    near = Fraction(value).limit_denominator(64)
    return str(near) if abs(float(near) - value) < 1e-9 else f"{value:.3g}"
