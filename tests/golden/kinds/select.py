"""The largest scores of each row."""

from collections.abc import Mapping
from typing import Any

import numpy
import torch

import fedlps_kernels
from fedlps_kernels.select_units import definition
from tests.golden.compare import exact
from tests.golden.options import Options


def run(case: Mapping[str, Any], arrays: Mapping[str, numpy.ndarray], options: Options) -> list[str]:
    """Both the public op and the definition; a row is a client with one group of units."""
    scores = arrays["scores"]
    wanted = case["want"]["indices"]
    inputs = (
        options.cast(scores),
        torch.tensor(case["counts"], dtype=torch.int32, device=options.device)[:, None],
        torch.tensor([0, scores.shape[1]]),
    )
    mismatches = exact("rows", [len(wanted), len(case["counts"])], [len(scores)] * 2)
    for name, select in (("op", fedlps_kernels.select_units), ("definition", definition.select_units)):
        selected = select(*inputs).tolist()
        for row, (got, want) in enumerate(zip(selected, wanted, strict=True)):
            if options.dtype == "float32" and cut_is_lost(scores[row], case["counts"][row]):
                continue
            mismatches += exact(f"indices[{row}] of the {name}", got, want + [-1] * (len(got) - len(want)))
    return mismatches


def cut_is_lost(scores: numpy.ndarray, count: int) -> bool:
    """Whether two distinct scores, one kept and one not, become equal (or overflow) in float32."""
    descending = scores[numpy.argsort(-scores, kind="stable")]
    inside, outside = descending[:count, None], descending[None, count:]
    with numpy.errstate(over="ignore"):
        same = inside.astype(numpy.float32) == outside.astype(numpy.float32)
    return bool(numpy.any(same & (inside != outside)))
