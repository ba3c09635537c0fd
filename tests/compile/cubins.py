"""Compiling Triton kernels ahead of time, and what the machine code says of them."""

import functools
import re
import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fedlps_kernels.rounding import ANY_PLACE
from tests.compile.shipped import Shipped, shipped

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
SHARED_LIMIT = {80: 166_912, 90: 232_448}  # bytes a block may have

COUNTED = {
    "HGMMA": r"\bHGMMA\.",
    "HMMA": r"\bHMMA\.",
    "FFMA": r"\bFFMA\b",
    "LDGSTS": r"\bLDGSTS\.",
    "LDGSTS128": r"\bLDGSTS\.\S*\.128",
}


def compiled(shipped: Shipped, folder: Path) -> dict[str, int]:
    """Registers, stack, shared memory (bytes) and counts of instructions of one kernel.

    Pointers to data are multiples of 16 bytes, as torch allocates; those to lists and counts may be any. folder: where
    the machine code lies meanwhile.
    """
    names, types = shipped.kernel.arg_names, shipped.types()
    signature = {name: types.get(name, "constexpr") for name in names}
    data = [name for name, kind in types.items() if kind[0] == "*" and name not in ANY_PLACE]
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in data}
    given = {(names.index(name),): value for name, value in shipped.constants.items()}
    source = ASTSource(fn=shipped.kernel, signature=signature, constexprs=given, attrs=aligned)
    options = {"num_warps": shipped.warps, "num_stages": shipped.stages}
    binary = triton.compile(source, target=GPUTarget("cuda", shipped.architecture, 32), options=options)
    path = folder / "kernel.cubin"
    path.write_bytes(binary.asm["cubin"])
    usage = _cuobjdump("-res-usage", path)
    code = _cuobjdump("-sass", path)
    found = {name.lower(): int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK")}
    found["shared"] = binary.metadata.shared
    return found | {name: len(re.findall(pattern, code)) for name, pattern in COUNTED.items()}


@functools.cache
def _by_key() -> dict[tuple[str, str, str], Shipped]:
    return {each.key: each for each in shipped()}


def compiled_by_key(key: tuple[str, str, str]) -> dict[str, int]:
    """As `compiled`, for another process, which kernels cannot be sent to."""
    with tempfile.TemporaryDirectory() as folder:
        return compiled(_by_key()[key], Path(folder))


def _cuobjdump(option: str, path: Path) -> str:
    done = subprocess.run([TOOLS / "cuobjdump", option, path], capture_output=True, text=True, check=True)
    return done.stdout
