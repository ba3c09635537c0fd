"""The SGD step on kept entries on a GPU: csrc/cuda/scatter_update.cu."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fedlps_kernels import native, on_device
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.places import Places

Pull = tuple[float, torch.Tensor]
MOST_PULLS = 4


@dataclass(frozen=True)
class ClipRoom:
    """Memory for clipping C clients: squares (C, lines) and factors (C,), float64."""

    squares: torch.Tensor
    factors: torch.Tensor

    @classmethod
    def of(cls, clients: int, model: OnDevice) -> "ClipRoom":
        """New memory on the model's device."""
        like = model.table.new_empty(0, dtype=torch.float64)
        return cls(like.new_empty(clients, model.lines), like.new_empty(clients))


def scatter_update(
    parameters: torch.Tensor,
    gradient: torch.Tensor,
    places: Places,
    pulls: Sequence[Pull],
    kept: torch.Tensor | None,
    counts: torch.Tensor,
    model: OnDevice,
    *,
    lr: torch.Tensor,
    weight_decay: float = 0.0,
    clip: float = 0.0,
    momentum: float = 0.0,
    velocity: torch.Tensor | None = None,
    room: ClipRoom | None = None,
    samples: torch.Tensor | None = None,
    lost: torch.Tensor | None = None,
    widths: torch.Tensor | None = None,
    dropped: torch.Tensor | None = None,
    sums: torch.Tensor | None = None,
) -> None:
    """`fedlps_kernels.scatter_update`, q = g + the pulls' coefficient (w - reference) in turn, and what a round needs.

    parameters: (C, P), changed in place; gradient: any shape, its entries at `places`; both of one dtype.
    pulls: at most 4; reference (P,) or (C, P). kept: (C, U) int32, none: the leading units; counts: (C, G) int32.
    lr: one number of that dtype, read on the device. velocity: (C, P), changed in place, if and only if momentum > 0.
    room: needed if clip > 0. samples: (C,) int32; a client with 0 of them is left alone.
    lost: (C,) int32, set to 1 where a number that is not finite was written, else untouched.
    widths: (K, C, G) int32, at most the counts: an entry steps if its row and its column are among the leading units of
    any of K submodels; the others are left alone, and do not count for the clip. None: all step.
    sums: (C, U), written for each kept unit: its rows' sum of |w| over the kept columns as they now are, plus `dropped`
    (C, U) if given (`dropped_sums`).
    """
    given = [(coefficient, native.array(reference)) for coefficient, reference in pulls]
    cohort = native.maybe(kept), native.array(counts)
    arrays = *native.arrays(parameters, gradient), on_device.places(places), given, native.array(lr)
    numbers = weight_decay, clip, momentum, native.maybe(velocity)
    active = native.maybe(samples), native.maybe(lost)
    memory = (None, None) if room is None else native.arrays(room.squares, room.factors)
    if clip > 0 and room is None:
        raise ValueError(f"room: got none with clip {clip}, expected memory for clipping")
    written = native.maybe(widths), native.maybe(dropped), native.maybe(sums), *memory
    native.launch("scatter_update", parameters, model.crossing(), cohort, *arrays, *numbers, active, *written)


def rank_units(kept: torch.Tensor, counts: torch.Tensor, model: OnDevice, ranks: torch.Tensor) -> None:
    """ranks: (C, U) int32, written: each unit's rank among the kept ones of its group, or -1."""
    cohort = native.array(kept), native.array(counts)
    native.launch("rank_units", kept, model.crossing(), cohort, native.array(ranks))


def dropped_sums(
    parameters: torch.Tensor,
    kept: torch.Tensor,
    counts: torch.Tensor,
    ranks: torch.Tensor,
    model: OnDevice,
    dropped: torch.Tensor,
    *,
    changed: torch.Tensor | None = None,
) -> None:
    """dropped: (C, U), written for each kept unit: its rows' sum of |w| over the columns that are not kept.

    parameters: (C, P), the same dtype. ranks: of `rank_units`. changed: (C, G) int32 of `select_units`: only where the
    selection changed; none: everywhere.
    """
    cohort = native.array(kept), native.array(counts)
    arrays = *native.arrays(parameters, ranks), native.maybe(changed), native.array(dropped)
    native.launch("dropped_sums", parameters, model.crossing(), cohort, *arrays)


def gate_gradients(
    parameters: torch.Tensor,
    gradient: torch.Tensor,
    places: Places,
    kept: torch.Tensor,
    counts: torch.Tensor,
    model: OnDevice,
    gates: torch.Tensor,
) -> None:
    """gates: (C, U), written: t of spec section 4, step 2, for each kept unit the sum of w g over scale and shift, of a
    layer without norm over row and bias; 0 for the others.

    parameters: (C, P); gradient: any shape, its entries at `places`; all of one dtype.
    """
    gates.zero_()
    cohort = native.array(kept), native.array(counts)
    arrays = *native.arrays(parameters, gradient), on_device.places(places), native.array(gates)
    native.launch("gate_gradients", parameters, model.crossing(), cohort, *arrays)
