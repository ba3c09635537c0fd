"""Capabilities and selected clients per round."""

from collections.abc import Mapping
from typing import Any

import numpy

from fedlps.recipe import capability, selection
from tests.golden.compare import close, exact
from tests.golden.options import DOUBLE, Options


def run(case: Mapping[str, Any], arrays: Mapping[str, numpy.ndarray], options: Options) -> list[str]:
    """Each round's draws; a fixed capability must be the same in all of them."""
    seed, clients, levels, want = case["seed"], case["clients"], case["levels"], case["want"]
    mismatches = exact("rounds", [len(want["selected"]), len(want["capability_dynamic"])], [len(case["rounds"])] * 2)
    for index, number in enumerate(case["rounds"]):
        fixed = capability.draw(seed, number, clients, levels, "fix")
        dynamic = capability.draw(seed, number, clients, levels, "dynamic")
        selected = selection.draw(seed, number, clients, case["fraction"])
        mismatches += close(f"capability_fix in round {number}", fixed, want["capability_fix"], DOUBLE)
        mismatches += close(f"capability_dynamic[{index}]", dynamic, want["capability_dynamic"][index], DOUBLE)
        mismatches += exact(f"selected[{index}]", selected, want["selected"][index])
    return mismatches
