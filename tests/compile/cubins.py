"""Compiling Triton kernels ahead of time, and what the machine code says of them."""

import functools
import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fedlps_kernels.rounding import ANY_PLACE
from tests.compile.shipped import Shipped, shipped
from tests.compile.table import Key, Table

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
SHARED_LIMIT = {80: 166_912, 90: 232_448}  # bytes a block may have
PROCESSOR = {80: "SM80", 90: "SM90a"}
INSTRUCTION = 16  # bytes

COUNTED = {
    "HGMMA": r"\bHGMMA\.",
    "HMMA": r"\bHMMA\.",
    "FFMA": r"\bFFMA\b",
    "LDGSTS": r"\bLDGSTS\.",
    "LDGSTS128": r"\bLDGSTS\.\S*\.128",
}


def compiled(batch: Sequence[Shipped]) -> Table:
    """Registers, stack, shared memory (bytes) and counts of instructions of each kernel of one architecture.

    They are disassembled together: the tool's start takes as long as compiling one of them.
    """
    (architecture,) = {each.architecture for each in batch}
    binaries = [_binary(each) for each in batch]
    cubins = [binary.asm["cubin"] for binary in binaries]
    code = [_code(cubin) for cubin in cubins]
    lines = iter(_run("nvdisasm", "--no-dataflow", "--binary", PROCESSOR[architecture], file=b"".join(code)))
    instructions = (line for line in lines if re.match(r"\s+/\*[0-9a-f]+\*/", line))
    made: Table = {}
    for each, binary, cubin, own in zip(batch, binaries, cubins, code, strict=True):
        usage = "".join(_run("cuobjdump", "-res-usage", file=cubin))
        found = {name.lower(): int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK")}
        found["shared"] = binary.metadata.shared
        listing = "\n".join(next(instructions) for _ in range(len(own) // INSTRUCTION))
        made[each.key] = found | {name: len(re.findall(pattern, listing)) for name, pattern in COUNTED.items()}
    assert next(instructions, None) is None, "not one line for each instruction"
    return made


@functools.cache
def _by_key() -> dict[Key, Shipped]:
    return {each.key: each for each in shipped()}


def compiled_by_keys(keys: Sequence[Key]) -> Table:
    """As `compiled`, for another process, which kernels cannot be sent to."""
    return compiled([_by_key()[key] for key in keys])


def _binary(shipped: Shipped) -> Any:
    """Pointers to data are multiples of 16 bytes, as torch allocates; those to lists and counts may be any."""
    names, types = shipped.kernel.arg_names, shipped.types()
    signature = {name: types.get(name, "constexpr") for name in names}
    data = [name for name, kind in types.items() if kind[0] == "*" and name not in ANY_PLACE]
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in data}
    given = {(names.index(name),): value for name, value in shipped.constants.items()}
    source = ASTSource(fn=shipped.kernel, signature=signature, constexprs=given, attrs=aligned)
    options = {"num_warps": shipped.warps, "num_stages": shipped.stages}
    return triton.compile(source, target=GPUTarget("cuda", shipped.architecture, 32), options=options)


def _code(cubin: bytes) -> bytes:
    """The instructions in an ELF file of 64 bits."""
    (start,) = struct.unpack_from("<Q", cubin, 0x28)
    size, number, names = struct.unpack_from("<3H", cubin, 0x3A)
    sections = [struct.unpack_from("<2I4Q", cubin, start + size * section) for section in range(number)]
    first = sections[names][4]
    return b"".join(
        cubin[at : at + length] for name, *_, at, length in sections if cubin[first + name :].startswith(b".text.")
    )


def _run(tool: str, *options: str, file: bytes) -> list[str]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as written:
        written.write(file)
        written.flush()
        command = [TOOLS / tool, *options, written.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
