"""Tile shapes of every Triton kernel: data, chosen by kernel, architecture, precision and the layer's shape.

No launch searches. Each entry is compiled ahead of time by tests/compile, so what the table promises (no spills, wide
copies, matrix instructions) is seen without a GPU; which entry is fastest is not yet measured on one.
"""

from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["fp32", "tf32", "bf16"]
Product = Literal["forward", "input_gradient", "weight_gradient"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
ARCHITECTURES = (80, 90)
SHAPES = ("wide", "few_rows", "few_columns")
FEW = 16  # rows or columns of a layer, of which no client has more


@dataclass(frozen=True)
class Block:
    """A tile: rows and columns of the result, depth of one step of the sum.

    resident: programs per multiprocessor. chunk: positions per split of a weight gradient's sum, and of a norm's.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    resident: int = 4
    chunk: int = 2048


def shape(rows: int, columns: int) -> str:
    """The entry for a product whose result has up to `rows` units, its sums `columns` channels: full model's sizes."""
    if columns <= FEW:
        return "few_columns"
    return "few_rows" if rows <= FEW else "wide"


# A product's result has 64 positions by the units beside them: 64 rows are what wgmma takes.
_FORWARD = {
    "fp32": {
        "wide": Block(64, 64, 16, 4, 3),
        "few_rows": Block(64, 16, 32, 4, 3),
        "few_columns": Block(64, 64, 16, 4, 3),
    },
    "tf32": {
        "wide": Block(64, 64, 32, 4, 3),
        "few_rows": Block(64, 16, 32, 4, 3),
        "few_columns": Block(64, 64, 16, 4, 3),
    },
    "bf16": {
        "wide": Block(64, 64, 64, 4, 3),
        "few_rows": Block(64, 16, 64, 4, 3),
        "few_columns": Block(64, 64, 16, 4, 3),
    },
}

# The gradient's own rows are units: TF32's wgmma wants both operands along the sum, so 32 rows keep copies wide.
_WEIGHT_GRADIENT = {
    "fp32": {
        "wide": Block(64, 64, 16, 4, 3),
        "few_rows": Block(16, 64, 32, 4, 3),
        "few_columns": Block(64, 16, 32, 4, 3),
    },
    "tf32": {
        "wide": Block(32, 64, 32, 4, 3),
        "few_rows": Block(16, 64, 32, 4, 3),
        "few_columns": Block(32, 16, 32, 4, 3),
    },
    "bf16": {
        "wide": Block(64, 64, 32, 4, 3),
        "few_rows": Block(16, 64, 64, 4, 3),
        "few_columns": Block(64, 16, 64, 4, 3),
    },
}

# What ptxas spills in the shapes above.
_EXCEPTIONS: dict[tuple[Product, int, str, str], Block] = {
    ("input_gradient", 80, "fp32", "wide"): Block(64, 64, 16, 8, 3),
    ("input_gradient", 80, "fp32", "few_columns"): Block(64, 64, 16, 8, 3),
    ("input_gradient", 80, "tf32", "wide"): Block(64, 64, 32, 8, 3),
    ("weight_gradient", 80, "fp32", "wide"): Block(32, 64, 16, 4, 3),
    ("weight_gradient", 90, "fp32", "few_rows"): Block(16, 64, 32, 4, 2),
}

_TABLES: tuple[tuple[Product, dict[str, dict[str, Block]]], ...] = (
    ("forward", _FORWARD),
    ("input_gradient", _FORWARD),
    ("weight_gradient", _WEIGHT_GRADIENT),
)
PRODUCTS = {
    (product, architecture, precision, shape): block
    for product, table in _TABLES
    for architecture in ARCHITECTURES
    for precision, shapes in table.items()
    for shape, block in shapes.items()
} | _EXCEPTIONS

# Norm, ReLU and pooling: positions x channels that a program holds. Bound by memory, so alike in all precisions.
STAGES = {"wide": Block(32, 64, 1, 8, 1, resident=8), "narrow": Block(128, 16, 1, 4, 1, resident=16)}

ADD_WARPS = 4  # of a program that adds the splits of a weight gradient
LOSS_ENTRIES, LOSS_WARPS = 4096, 4  # samples x classes that a program of the loss holds
TAUGHT_ENTRIES = 1024  # with a teacher's beside them; of 2048 some registers are spilled
BATCH = Block(128, 16, 1, 4, 1, resident=16)  # positions x channels that a program gathers
