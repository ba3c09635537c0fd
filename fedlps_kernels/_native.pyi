"""csrc/bindings.cpp, csrc/grouped_bindings.cpp, csrc/norm_bindings.cpp. A tensor crosses as (address, shape, dtype).

With a CUDA part also what csrc/cuda_bindings.cpp defines, for `fedlps_kernels.native.launch`.
"""

from typing import Any

Array = tuple[int, tuple[int, ...], str]
Counts = tuple[Array, ...]  # of samples, columns and rows

def unit_abs_sum(table: Array, groups: Array, parameters: Array, sums: Array, threads: int, /) -> None: ...
def select_units(groups: Array, scores: Array, counts: Array, kept: Array, threads: int, /) -> None: ...
def importance_step(
    groups: Array,
    redundancy: Array,
    sums: Array,
    unit_gradient: Array,
    lr: float,
    lam: float,
    kappa: float,
    mean: bool,
    stepped: Array,
    threads: int,
    /,
) -> None: ...
def gather_weights(
    table: Array, groups: Array, parameters: Array, kept: Array, counts: Array, compact: Array, threads: int, /
) -> None: ...
def scatter_weights(
    table: Array, groups: Array, compact: Array, kept: Array, counts: Array, parameters: Array, threads: int, /
) -> None: ...
def scatter_update(
    table: Array,
    groups: Array,
    parameters: Array,
    gradient: Array,
    anchor: Array,
    kept: Array,
    counts: Array,
    lr: float,
    pull: float,
    weight_decay: float,
    clip: float,
    momentum: float,
    velocity: Array | None,
    threads: int,
    /,
) -> None: ...
def scatter_aggregate(
    table: Array,
    groups: Array,
    parameters: Array,
    residuals: Array,
    kept: Array,
    counts: Array,
    weights: Array,
    holders: bool,
    result: Array,
    threads: int,
    /,
) -> None: ...
def grouped_forward(
    inputs: Array,
    weights: Array,
    bias: Array | None,
    counts: Counts,
    stride: int,
    padding: int,
    outputs: Array,
    threads: int,
    /,
) -> None: ...
def grouped_input_gradient(
    gradient: Array, weights: Array, counts: Counts, stride: int, padding: int, result: Array, threads: int, /
) -> None: ...
def grouped_weight_gradient(
    inputs: Array,
    gradient: Array,
    counts: Counts,
    stride: int,
    padding: int,
    weight_result: Array,
    bias_result: Array,
    threads: int,
    /,
) -> None: ...
def norm_forward(
    inputs: Array, scale: Array, shift: Array, counts: tuple[Array, ...], outputs: Array, threads: int, /
) -> None: ...
def norm_gradient(
    inputs: Array,
    gradient: Array,
    scale: Array,
    counts: tuple[Array, ...],
    input_result: Array,
    scale_result: Array,
    shift_result: Array,
    threads: int,
    /,
) -> None: ...
def available_isas() -> list[str]: ...
def isa() -> str: ...
def use_isa(name: str, /) -> None: ...
def cuda() -> dict[str, Any] | None: ...
