"""One step of the redundancies on a GPU: csrc/cuda/importance_step.cu."""

import torch

from fedlps_kernels import native
from fedlps_kernels.on_device import OnDevice


def importance_step(
    redundancy: torch.Tensor,
    sums: torch.Tensor,
    unit_gradient: torch.Tensor | None,
    model: OnDevice,
    stepped: torch.Tensor,
    *,
    lr: torch.Tensor,
    lam: float,
    kappa: float,
    reduction: str = "mean",
    samples: torch.Tensor | None = None,
    lost: torch.Tensor | None = None,
) -> None:
    """redundancy, sums, unit_gradient (none: zeros): (C, U) floats of one dtype; stepped: the same, written; it may be
    the redundancies themselves. lr: one number of that dtype, read on the device.

    samples: (C,) int32; a client with 0 of them is left alone. lost: (C,) int32, set to 1 where a number that is not
    finite was written, else untouched.
    """
    active = native.maybe(samples), native.maybe(lost)
    arrays = *native.arrays(redundancy, sums), native.maybe(unit_gradient), native.array(lr)
    numbers = lam, kappa, reduction == "mean"
    written = active, native.array(stepped)
    native.launch("importance_step", redundancy, model.crossing(), *arrays, *numbers, *written)
