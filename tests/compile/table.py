"""The committed table of what the compiler makes of each kernel, for one version of triton and its ptxas."""

import csv
from pathlib import Path

import triton

FOLDER = Path(__file__).parent
FIELDS = ("kernel", "architecture", "precision")
PATH = FOLDER / f"triton-{triton.__version__}.csv"
RECORDED = sorted(path.stem for path in FOLDER.glob("triton-*.csv"))

Key = tuple[str, str, str]
Table = dict[Key, dict[str, int]]


def read() -> Table:
    with PATH.open(newline="") as file:
        return {tuple(row.pop(name) for name in FIELDS): _numbers(row) for row in csv.DictReader(file)}


def write(table: Table) -> None:
    rows = [dict(zip(FIELDS, key, strict=True)) | values for key, values in table.items()]
    with PATH.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _numbers(row: dict[str, str]) -> dict[str, int]:
    return {name: int(value) for name, value in row.items()}
