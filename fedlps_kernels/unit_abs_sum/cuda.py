"""The unit absolute sum on a GPU: csrc/cuda/unit_abs_sum.cu."""

import torch

from fedlps_kernels import native
from fedlps_kernels.on_device import OnDevice


def unit_abs_sum(parameters: torch.Tensor, model: OnDevice, sums: torch.Tensor) -> None:
    """parameters: (C, P); sums: (C, U), the same dtype, written."""
    native.launch("unit_abs_sum", parameters, model.crossing(), *native.arrays(parameters, sums))
