"""Which launches serve a device: kernels on a GPU, definitions elsewhere; and why there is no GPU to serve."""

from __future__ import annotations

import torch

from fedlps.engine.cuda.definitions import defined
from fedlps.engine.cuda.launches import Launches, Precision
from fedlps_kernels.layout import Layout


def launches_for(layout: Layout, precision: Precision, device: torch.device) -> Launches:
    """The launches of an executor on a device."""
    if device.type == "cuda":
        from fedlps.engine.cuda.device import kernels

        return kernels(layout, precision, device)
    return defined(layout, precision)
