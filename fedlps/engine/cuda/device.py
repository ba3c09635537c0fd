"""The launches as kernels."""

from fedlps.engine.cuda.launches import Launches, Precision
from fedlps_kernels.layout import Layout
import torch


def kernels(layout: Layout, precision: Precision, device: torch.device) -> Launches:
    raise NotImplementedError
