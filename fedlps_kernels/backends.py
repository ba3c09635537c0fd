"""Which implementation of each op runs here, and why not a faster one."""

from dataclasses import dataclass

from fedlps_kernels import native

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

    cpu, cuda: `native (<instruction set>)` or `definition`, for tensors of either device.
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
    reasons.append(f"cuda: no kernels of its own yet ({_cuda()})")
    return [Backend(op, cpu, "definition", "; ".join(reasons)) for op in OPS]


def _cuda() -> str:
    """What there is of CUDA in the native module and on this machine."""
    module = native.module()
    found = module.cuda() if module else None
    if found is None:
        return "the module has no CUDA part"
    version = f"{found['runtime'] // 1000}.{found['runtime'] % 1000 // 10}"
    machine = f"{found['devices']} devices" if found["driver"] else "no driver here"
    return f"built for {found['architectures']} with runtime {version}, {machine}"
