"""A cohort's residuals folded into the global parameters."""

from collections.abc import Mapping
from typing import Any

import numpy
import torch

import fedlps_kernels
from fedlps_kernels.layout import Layout
from fedlps_kernels.scatter_aggregate import definition
from tests.golden.compare import close
from tests.golden.options import Options


def run(case: Mapping[str, Any], arrays: Mapping[str, numpy.ndarray], options: Options) -> list[str]:
    """Both the public op and the definition; any mask is expressed by a layout whose entries are units of one group."""
    parameters, mask = arrays["params"], arrays["mask"].astype(bool)
    size = parameters.size
    layout = Layout(
        table=torch.tensor([[0, -1, size, 1, 1, 0, -1, -1, -1]]), groups=torch.tensor([0, size]), parameters=size
    )
    counts = mask.sum(axis=1)
    kept = numpy.full(mask.shape, -1, numpy.int32)
    compact = numpy.zeros((len(mask), int(counts.max())))
    for client, (held, residual) in enumerate(zip(mask, arrays["residuals"], strict=True)):
        kept[client, : counts[client]] = numpy.flatnonzero(held)
        compact[client, : counts[client]] = residual[held]
    rule, weights = op_rule(case["rule"], numpy.array(case["weights"], numpy.float64))
    inputs = (
        options.cast(parameters),
        options.cast(compact),
        torch.from_numpy(kept).to(options.device),
        torch.from_numpy(counts.astype(numpy.int32)[:, None]).to(options.device),
        torch.from_numpy(weights).to(options.device),
        layout,
    )
    mismatches = []
    for name, aggregate in (("op", fedlps_kernels.scatter_aggregate), ("definition", definition.scatter_aggregate)):
        got = aggregate(*inputs, rule=rule).cpu().numpy()
        mismatches += close(f"params_out of the {name}", got, arrays["params_out"], options.tolerance)
    return mismatches


def op_rule(rule: str, weights: numpy.ndarray) -> tuple[str, numpy.ndarray]:
    """The op's rule and weights for a rule of the specification's section 6."""
    match rule:
        case "residual":
            return "sum", weights / weights.sum()
        case "uniform":
            return "sum", numpy.full(len(weights), 1 / len(weights))
        case "holders":
            return "holders", weights
    raise ValueError(f"rule: got {rule!r}, allowed: residual, uniform, holders")
