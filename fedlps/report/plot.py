"""`fedlps plot`: which pictures there are of some runs, drawn to files."""

import re
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from fedlps.errors import InputError
from fedlps.report import curves, plot_style
from fedlps.report.plot_accuracy import accuracy
from fedlps.report.plot_pattern import pattern
from fedlps.report.plot_ratios import ratios
from fedlps.run.files import cannot_write, write_atomically


class Picture(StrEnum):
    """What can be drawn."""

    ACCURACY = "accuracy"
    PATTERN = "pattern"
    RATIOS = "ratios"


class Format(StrEnum):
    """Kinds of files."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"


def plot(
    directories: Sequence[Path], out: Path, pictures: Sequence[Picture] = (), formats: Sequence[Format] = (Format.PNG,)
) -> Iterator[str]:
    """Draw runs, which are only read; a line per file, or about a picture that there is not.

    accuracy: one picture of all runs. pattern: one of each run. ratios: one of each configuration, its seeds together.
    pictures: only these; then one that cannot be drawn is an error. Files of the same name in `out` are replaced.
    InputError: matplotlib is missing, no run, runs of different presets, nothing to draw, or files cannot be written.
    """
    plot_style.check_matplotlib()
    runs = curves.read(directories)
    lines = curves.series(runs)
    wanted: dict[Picture, list[tuple[str, Callable[[], Any]]]] = {
        Picture.ACCURACY: [("", partial(accuracy, lines))],
        Picture.PATTERN: [(run.directory.resolve().name, partial(pattern, run.directory)) for run in runs],
        Picture.RATIOS: [(line.label, partial(ratios, line)) for line in lines],
    }
    taken: set[str] = set()
    for picture in pictures or Picture:
        for name, draw in wanted[picture]:
            try:
                contents = _drawn(draw, formats)
            except InputError as error:
                if pictures or picture is Picture.ACCURACY:
                    raise
                yield f"no {picture} picture: {error}"
                continue
            stem = _free("-".join(filter(None, (picture, name))), taken)
            for kind, content in contents.items():
                path = out / f"{stem}.{kind}"
                try:
                    out.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise cannot_write(out, error) from error
                write_atomically(path, content)
                yield str(path)


def _drawn(draw: Callable[[], Any], formats: Sequence[Format]) -> dict[Format, bytes]:
    from matplotlib import rc_context

    with rc_context(plot_style.STYLE):
        picture = draw()
        return {kind: plot_style.drawn(picture, kind) for kind in dict.fromkeys(formats)}


def _free(name: str, taken: set[str]) -> str:
    """A file name that no other picture of this call has."""
    plain = re.sub(r"[^\w.=-]+", "-", name)[:100]
    number, free = 1, plain
    while free in taken:
        number += 1
        free = f"{plain}-{number}"
    taken.add(free)
    return free
