"""Which launches serve a device: kernels on a GPU, definitions elsewhere; and why there is no GPU to serve."""

from __future__ import annotations

import torch

from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.definitions import defined
from fedlps.engine.cuda.launches import Launches, Precision
from fedlps.engine.cuda.scattered import ScatteredWeights
from fedlps_kernels import launching
from fedlps_kernels.layout import Layout


def launches_for(layout: Layout, precision: Precision, dtype: torch.dtype, buffers: Buffers) -> Launches:
    """The launches of an executor whose masters are of a dtype; kernels have them in float32 only."""
    launches = defined(layout, precision)
    if dtype != torch.float32:
        return launches
    on_gpu = buffers.device.type == "cuda"
    if on_gpu or (launching.interpreted() and launching.available()):
        from fedlps.engine.cuda.tiled import TiledProducts  # imports triton

        launches = launches._replace(products=TiledProducts(layout, precision, buffers))
    if on_gpu:
        launches = launches._replace(weights=ScatteredWeights(layout, precision, buffers))
    return launches
