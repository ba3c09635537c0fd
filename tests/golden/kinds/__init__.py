"""One module per kind of case, named like the kind, with `run(case, arrays, options) -> mismatches`.

case: the JSON file. arrays: the npz file's, empty if there is none. A mismatch is a line "key: got .. want ..".
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import numpy

from tests.golden.options import Options

Kind = Callable[[Mapping[str, Any], Mapping[str, numpy.ndarray], Options], list[str]]
NAMES = sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(kind: object) -> Kind:
    """The function that runs a kind of case. Raises ValueError for a kind there is none for."""
    if kind not in NAMES:
        raise ValueError(f"kind: got {kind!r}, allowed: {', '.join(NAMES)}")
    run: Kind = importlib.import_module(f"{__name__}.{kind}").run
    return run
