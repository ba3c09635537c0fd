"""Tables for other programs: rows as markdown, LaTeX, CSV or JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from enum import StrEnum

from fedlps.report.table import FORMATS, LEGEND, Figures, Row

SPECIAL = str.maketrans({character: f"\\{character}" for character in "&%$#_{}"} | {"~": "\\~{}", "^": "\\^{}"})


class Form(StrEnum):
    """What a table can be written as."""

    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"
    LATEX = "latex"


def export(rows: Sequence[Row], form: Form) -> str:
    """The text. markdown, latex: as people read it; csv, json: plain numbers (percent, FLOPs, bytes, seconds)."""
    return {Form.MARKDOWN: _markdown, Form.CSV: _csv, Form.JSON: _json, Form.LATEX: _latex}[form](rows)


def _markdown(rows: Sequence[Row]) -> str:
    cells = [{label: text.replace("|", "\\|") for label, text in row.cells().items()} for row in rows]
    lines = [list(cells[0]), ["---"] * len(cells[0]), *(list(row.values()) for row in cells)]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", LEGEND])


def _latex(rows: Sequence[Row]) -> str:
    cells = [row.cells() for row in rows]
    lines = [list(cells[0]), *(list(row.values()) for row in cells)]
    written = [" & ".join(text.translate(SPECIAL).replace("±", "$\\pm$") for text in line) + " \\\\" for line in lines]
    columns = "l" + "r" * (len(cells[0]) - 1)
    frame = (f"\\begin{{tabular}}{{{columns}}}", "\\hline", written[0], "\\hline", *written[1:], "\\hline")
    return "\n".join([*frame, "\\end{tabular}", f"% {LEGEND}"])


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "method", "seed", "rounds", *FORMATS, *(f"{label}_deviation" for label in FORMATS)])
    for row in rows:
        numbers = [_number(values, label) for values in (row.figures, row.deviations) for label in FORMATS]
        names = (row.run, row.method, row.seed, row.rounds)
        writer.writerow([*names, *("" if number is None else repr(number) for number in numbers)])
    return text.getvalue().rstrip("\n")


def _json(rows: Sequence[Row]) -> str:
    records = [
        {
            "run": row.run, "method": row.method, "seed": row.seed, "rounds": row.rounds,
            **{label: _number(row.figures, label) for label in FORMATS},
            "deviation": {label: _number(row.deviations, label) for label in FORMATS} if row.deviations else None,
        }
        for row in rows
    ]  # fmt: skip
    return json.dumps(records, indent=2)


def _number(values: Figures, label: str) -> float | None:
    value = values.get(label, math.nan)
    return None if math.isnan(value) else value
