"""Which implementation of each op runs here, and why not a faster one."""

from dataclasses import dataclass

from fedlps_kernels import native

ON_GPU = {  # csrc/cuda
    *("unit_abs_sum", "select_units", "importance_step", "gather_weights", "scatter_update", "scatter_aggregate")
}
OPS = (
    "unit_abs_sum",
    "select_units",
    "importance_step",
    "gather_weights",
    "scatter_update",
    "grouped_linear",
    "grouped_conv2d",
    "unit_norm",
    "scatter_aggregate",
)


@dataclass(frozen=True)
class Backend:
    """What serves one op.

    cpu: `native (<instruction set>)` or `definition`, for the CPU's tensors.
    cuda: `native (<GPU>)` or `definition`, for a GPU's.
    why: why nothing faster serves, in one line.
    """

    op: str
    cpu: str
    cuda: str
    why: str


def backends() -> list[Backend]:
    """One line per op. ValueError, one line, for a FEDLPS_NATIVE or FEDLPS_ISA that does not hold here."""
    module = native.module()
    if module is None:
        cpu, reasons = "definition", [f"cpu: {native.why_not()}"]
    else:
        cpu, fastest = f"native ({module.isa()})", module.available_isas()[-1]
        reasons = [] if module.isa() == fastest else [f"cpu: {module.isa()} was asked for, {fastest} would run"]
    why_not = native.why_no_cuda()
    return [_backend(op, cpu, reasons, why_not) for op in OPS]


def _backend(op: str, cpu: str, reasons: list[str], why_not: str) -> Backend:
    """One op's line. why_not: why the CUDA part does not serve here; empty if it does."""
    if op not in ON_GPU:
        return Backend(op, cpu, "definition", "; ".join([*reasons, f"cuda: no kernels of its own yet ({_cuda()})"]))
    if why_not:
        return Backend(op, cpu, "definition", "; ".join([*reasons, f"cuda: {why_not}"]))
    return Backend(op, cpu, f"native ({_cuda()})", "; ".join(reasons))


def _cuda() -> str:
    """What there is of CUDA in the native module and on this machine."""
    module = native.module()
    found = module.cuda() if module else None
    if found is None:
        return "the module has no CUDA part"
    runtime, driver = (f"{found[name] // 1000}.{found[name] % 1000 // 10}" for name in ("runtime", "driver"))
    gpus = ", ".join(f"sm_{major}{minor}" for major, minor in found["capabilities"]) or "no GPU"
    machine = f"driver for {driver}, {gpus}" if found["driver"] else "no driver here"
    return f"built for {found['architectures']} with runtime {runtime}, {machine}"
