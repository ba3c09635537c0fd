"""The launches in plain torch, client after client: any device, float32 and float64. The proof of the control flow."""

from fedlps.engine.cuda.definitions.products import DefinedProducts
from fedlps.engine.cuda.definitions.weights import DefinedWeights
from fedlps.engine.cuda.launches import Launches, Precision
from fedlps_kernels.layout import Layout


def defined(layout: Layout, precision: Precision = "fp32") -> Launches:
    """Both halves."""
    return Launches(DefinedProducts(layout, precision), DefinedWeights(layout, precision))
