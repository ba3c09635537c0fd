"""Run golden cases: read each, hand it to its kind, say how it went."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy

from tests.golden import kinds
from tests.golden.options import Options, SkippedError


@dataclass(frozen=True)
class Outcome:
    """How one case went; the detail of a failure names what differs, of a skipped case why."""

    name: str
    status: Literal["ok", "FAILED", "skipped"]
    detail: str = ""

    def __str__(self) -> str:
        match self.status:
            case "ok":
                return f"ok {self.name}"
            case "FAILED":
                return f"FAILED {self.name} {self.detail}"
            case "skipped":
                return f"skipped {self.name}: {self.detail}"


def case_files(folder: Path) -> list[Path]:
    """The cases of a folder, by name."""
    return sorted(folder.glob("*.json"))


def run_case(path: Path, options: Options) -> Outcome:
    """Run one case. Whatever goes wrong with it, its file included, is its failure and not the caller's."""
    name = path.stem
    try:
        case = json.loads(path.read_text())
        mismatches = kinds.find(case["kind"])(case, _arrays(path.with_suffix(".npz")), options)
    except SkippedError as reason:
        return Outcome(name, "skipped", str(reason))
    except Exception as error:
        return Outcome(name, "FAILED", f"{type(error).__name__}: {' '.join(str(error).split())}")
    if not mismatches:
        return Outcome(name, "ok")
    more = f" (and {len(mismatches) - 1} more)" if len(mismatches) > 1 else ""
    return Outcome(name, "FAILED", mismatches[0] + more)


def run_folder(folder: Path, options: Options) -> Iterator[Outcome]:
    """Run every case of a folder, one after another."""
    for path in case_files(folder):
        yield run_case(path, options)


def _arrays(path: Path) -> dict[str, numpy.ndarray]:
    if not path.exists():
        return {}
    with numpy.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
