"""Every Triton kernel in every configuration that the launchers choose for the models of the zoo."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fedlps_kernels.gather_batch import kernels as batch
from fedlps_kernels.grouped_conv2d.kernels import contract, weight_gradient
from fedlps_kernels.packing import kernels as packing
from fedlps_kernels.rounding import ANY_SIZE
from fedlps_kernels.softmax_loss import kernels as loss
from fedlps_kernels.softmax_loss.triton import loss_block
from fedlps_kernels.tuning import (
    ADD_WARPS,
    ARCHITECTURES,
    BATCH,
    LOSS_WARPS,
    PRECISIONS,
    PRODUCTS,
    STAGES,
    Block,
)
from fedlps_kernels.unit_norm.definition import EPSILON
from fedlps_kernels.unit_norm.kernels import backward, forward, moments

OFFSETS = (
    *("source_offsets", "result_offsets", "gradient_offsets", "teacher_offsets", "offsets", "indices"),
    *("weight_places", "row_places", "column_places", "inner_places", "vector_places"),
)
SINGLES = ("dense", "packed", "scale", "partial", "mean", "reciprocal", "sums", "losses", "table")
ACTIVATIONS = ("source", "weights", "gradient", "logits", "teacher", "vectors")
NORM_ARGUMENTS = ("mean", "reciprocal", "vectors", "vector_places", "rows_places", "sums")
STAGE_KINDS = ((True, True, ""), (True, True, "max"), (False, True, ""), (False, True, "max"), (False, False, "avg"))
CLASSES = (10, 100, 200)


@dataclass(frozen=True)
class Shipped:
    """A kernel as it is launched. name: what distinguishes it, besides architecture and precision."""

    name: str
    kernel: Any
    architecture: int
    precision: str
    constants: dict[str, Any]
    warps: int
    stages: int = 1

    @property
    def key(self) -> tuple[str, str, str]:
        """How the table names it."""
        return self.name, f"sm_{self.architecture}", self.precision

    def types(self) -> dict[str, str]:
        """Of all arguments that are no constants."""
        names = [name for name in self.kernel.arg_names if name not in self.constants]
        return {name: self._type(name) for name in names}

    def _type(self, name: str) -> str:
        values = "*bf16" if self.precision == "bf16" else "*fp32"
        if name == "channels" and self.kernel is loss.softmax_loss:
            return "*i32"
        if name in ANY_SIZE:
            return "i32"
        if name in OFFSETS:
            return "*i64"
        if name in ACTIVATIONS:
            return values
        if name == "result":
            sums = (weight_gradient.weight_gradient, weight_gradient.add_splits)
            sums += (backward.gradient_sums, backward.add_gradient_sums)
            return "*fp32" if self.kernel in sums else values
        if name == "images":
            return "*u8"
        return "*fp32" if name in SINGLES else "*i32"


def shipped() -> Iterator[Shipped]:
    """All of them, in the table's order."""
    for architecture in ARCHITECTURES:
        for precision in PRECISIONS:
            yield from _products(architecture, precision)
            yield from _stages(architecture, precision)
            stored = {"PRECISION": precision, "UP": False}
            for classes in CLASSES:
                for taught in (False, True):
                    block = loss_block(classes, taught)
                    absent = {} if taught else {"teacher": None, "teacher_offsets": None}
                    name = f"softmax_loss {block['BLOCK_COLUMNS']}{' taught' * taught}"
                    given = stored | block | absent
                    yield Shipped(name, loss.softmax_loss, architecture, precision, given, LOSS_WARPS)
            if precision == "fp32":
                for name, back in (("pack", False), ("unpack", True)):
                    constants = stored | _area(BATCH) | {"BACK": back}
                    yield Shipped(name, packing.pack, architecture, precision, constants, BATCH.warps)
            yield Shipped(
                "gather_batch", batch.gather_batch, architecture, precision, stored | _area(BATCH), BATCH.warps
            )


def _products(architecture: int, precision: str) -> Iterator[Shipped]:
    for (product, own, exactness, shape), block in PRODUCTS.items():
        if (own, exactness) != (architecture, precision):
            continue
        given = {"PRECISION": precision, "UP": False, **_area(block), "BLOCK_DEPTH": block.depth}
        backward = product == "input_gradient"
        for kind in ("linear", "conv", "strided") if backward else ("linear", "conv"):
            constants = given | {"POINTWISE": kind == "linear"}
            name, rest = f"{product} {shape} {kind}", (block.warps, block.stages)
            if product != "weight_gradient":
                ways = {"BACKWARD": backward, "STRIDED": kind == "strided"}
                ways["TRANSPOSED"] = backward and precision != "bf16"
                yield Shipped(name, contract.contract, architecture, precision, constants | ways, *rest)
                continue
            for split in (False, True):
                ways = {"SPLIT": split, "CHUNK": block.chunk}
                full = f"{name} split" if split else name
                yield Shipped(full, weight_gradient.weight_gradient, architecture, precision, constants | ways, *rest)
        if product == "weight_gradient":
            name = f"add_splits {shape}"
            yield Shipped(name, weight_gradient.add_splits, architecture, precision, _area(block), ADD_WARPS)


def _stages(architecture: int, precision: str) -> Iterator[Shipped]:
    where = architecture, precision
    for shape, block in STAGES.items():
        area, columns = _area(block), {"BLOCK_COLUMNS": block.columns}
        sums = {"CHUNK": block.chunk, "EPSILON": EPSILON}
        for split in (False, True):
            name = f"moments {shape}{' split' * split}"
            yield Shipped(name, moments.moments, *where, area | sums | {"SPLIT": split}, block.warps)
        yield Shipped(f"merge_moments {shape}", moments.merge_moments, *where, columns | sums, 1)
        yield Shipped(f"add_gradient_sums {shape}", backward.add_gradient_sums, *where, columns, 1)
        for norm, relu, pool in STAGE_KINDS:
            what = {"RELU": relu, "POOL": pool}
            kind = " ".join(word for word in ("norm" * norm, "relu" * relu, pool) if word)
            stored = {"PRECISION": precision, "UP": False, "NORM": norm} | area | what
            for name, kernel in (("stage", forward.forward), ("stage_gradient", backward.backward)):
                absent = {} if norm else {name: None for name in NORM_ARGUMENTS if name in kernel.arg_names}
                yield Shipped(f"{name} {shape} {kind}", kernel, *where, stored | absent, block.warps)
            if norm:
                for split in (False, True):
                    name = f"gradient_sums {shape} {kind}{' split' * split}"
                    constants = area | what | {"CHUNK": block.chunk, "SPLIT": split}
                    yield Shipped(name, backward.gradient_sums, *where, constants, block.warps)


def _area(block: Block) -> dict[str, int]:
    return {"BLOCK_ROWS": block.rows, "BLOCK_COLUMNS": block.columns}
