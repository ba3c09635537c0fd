"""Which launches serve a device: kernels where there are any, else definitions."""

from __future__ import annotations

import torch

from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.definitions import defined
from fedlps.engine.cuda.launches import Launches, Precision
from fedlps_kernels.layout import Layout


def launches_for(layout: Layout, precision: Precision, dtype: torch.dtype, buffers: Buffers) -> Launches:
    """The launches of an executor whose masters are of a dtype and lie where the buffers do."""
    return defined(layout, precision)
