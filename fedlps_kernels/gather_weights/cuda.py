"""Moving submodels between any two forms of places on a GPU: csrc/cuda/gather_weights.cu."""

import torch

from fedlps_kernels import checks, native, on_device
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.places import Places


def move(
    source: torch.Tensor,
    source_places: Places,
    target: torch.Tensor,
    target_places: Places,
    counts: torch.Tensor,
    model: OnDevice,
    *,
    taken: torch.Tensor | None = None,
    placed: torch.Tensor | None = None,
    rounding: str = "none",
    widths: torch.Tensor | None = None,
) -> None:
    """Every client's entries from their places in the source to those in the target; all else in it stays as it is.

    source, target: any shape, contiguous; places count their entries in the order of memory.
    counts: (C, G) int32, how many units move. taken: (C, U) int32, which of the source's rows and columns they are;
    placed: which of the target's they become; none: the leading ones.
    rounding: `none`; `tf32`, float32 to TF32's 10 bits, ties away from zero; `bf16`, to nearest, ties to even, if and
    only if the target is bfloat16.
    widths: (C, G) int32, at most the counts: of the units that move only the leading ones have their entries, those of
    the others' rows and columns become 0; none: all.
    """
    checks.choice("rounding", rounding, ("none", "tf32", "bf16"))
    if (rounding == "bf16") != (target.dtype == torch.bfloat16):
        raise ValueError(f"rounding: got {rounding} for a target of {target.dtype}, expected bf16 for bfloat16 alone")
    sides = [(native.maybe(kept), native.array(counts)) for kept in (taken, placed)]
    from_source = sides[0], native.array(source), on_device.places(source_places)
    to_target = sides[1], native.array(target), on_device.places(target_places)
    native.launch("move", source, model.crossing(), *from_source, *to_target, rounding == "tf32", native.maybe(widths))
