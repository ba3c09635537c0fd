"""The ops of federated training with submodels, batched over clients, usable without fedlps.

Each op's folder has its public function and its definition in plain torch; `backends()` says what runs here.
"""

from fedlps_kernels.backends import Backend, backends
from fedlps_kernels.gather_weights import gather_weights
from fedlps_kernels.grouped_conv2d import grouped_conv2d
from fedlps_kernels.grouped_linear import grouped_linear
from fedlps_kernels.importance_step import importance_step
from fedlps_kernels.layout import Layout
from fedlps_kernels.scatter_aggregate import scatter_aggregate
from fedlps_kernels.scatter_update import scatter_update
from fedlps_kernels.select_units import select_units
from fedlps_kernels.unit_abs_sum import unit_abs_sum
from fedlps_kernels.unit_norm import unit_norm

__all__ = [
    "Backend",
    "Layout",
    "backends",
    "gather_weights",
    "grouped_conv2d",
    "grouped_linear",
    "importance_step",
    "scatter_aggregate",
    "scatter_update",
    "select_units",
    "unit_abs_sum",
    "unit_norm",
]
