"""A Program as the native engine reads it (csrc/cpu/engine/program.h)."""

from __future__ import annotations

from typing import Any

import torch

from fedlps.program import Program, Step
from fedlps_kernels import native
from fedlps_kernels.layout import Layout

KINDS = ("conv", "linear", "norm", "relu", "maxpool", "avgpool", "flatten")


def native_program(program: Program, layout: Layout) -> dict[str, Any]:
    """The program's tables. The tensors they point to live as long as the dictionary."""
    channels, height, width = (*program.input_shape, 1, 1)[:3]
    steps = torch.tensor([_row(step) for step in program.steps], dtype=torch.int64).reshape(-1, 9)
    exits = torch.tensor(program.exits, dtype=torch.int64)
    return {
        "table": native.array(layout.table),
        "groups": native.array(layout.groups),
        "steps": native.array(steps),
        "exits": native.array(exits),
        "channels": channels,
        "height": height,
        "width": width,
        "classes": program.classes,
        "parameters": program.size,
        "alive": (layout, steps, exits),
    }


def _row(step: Step) -> tuple[int, ...]:
    shape = (*step.shape, 1, 1)[:3]
    layer = -1 if step.layer is None else step.layer
    return (KINDS.index(step.kind), step.input, layer, step.kernel, step.stride, step.padding, *shape)
