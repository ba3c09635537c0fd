"""What nvcc makes of csrc/cuda/*.cu: registers, stack, spills and shared memory of every kernel.

`python -m tests.compile.nvcc` writes the table anew; it is compared with what the same nvcc gives.
"""

import json
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).parent / "nvcc.json"
NVCC = shutil.which("nvcc")
ARCHITECTURES = ("80", "90a")
SOURCES = sorted((ROOT / "csrc/cuda").glob("*.cu"))
NAME = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
TYPES = {"f": "float", "d": "double", "t": "bfloat16"}

Kernel = dict[str, int]


def version() -> str:
    """Of nvcc, as 13.0.88."""
    said = subprocess.run([NVCC, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"V(\d+\.\d+\.\d+)", said).group(1)


def kernels() -> dict[str, Kernel]:
    """By `file kernel<types> architecture`. Two files at a time."""
    with ThreadPoolExecutor(2) as pool:
        return {name: found for each in pool.map(of_source, SOURCES) for name, found in each.items()}


def of_source(source: Path) -> dict[str, Kernel]:
    """The device's part alone; what g++ says of the host's is seen by tests/fibers."""
    options = ["-std=c++20", "-O3", "-Xptxas", "-v", f"-I{ROOT / 'csrc'}", '-DFEDLPS_CUDA_ARCHITECTURES=""']
    for architecture in ARCHITECTURES:
        options += ["-gencode", f"arch=compute_{architecture},code=sm_{architecture}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [NVCC, *options, "-fatbin", source, "-o", Path(folder) / "kernels.fatbin"]
        result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode or "warning" in result.stderr:
        raise RuntimeError(f"{source.name}: {result.stderr}")
    return parsed(source.name, result.stderr)


def parsed(file: str, said: str) -> dict[str, Kernel]:
    """What ptxas says of each kernel, one behind the other."""
    found: dict[str, Kernel] = {}
    name = ""
    for line in said.splitlines():
        if match := NAME.search(line):
            name = f"{file} {readable(match[1])} {match[2]}"
            found[name] = {}
        elif match := STACK.search(line):
            found[name].update(stack=int(match[1]), spilled=int(match[2]) + int(match[3]))
        elif match := USED.search(line):
            shared = SHARED.search(line)
            found[name].update(registers=int(match[1]), shared=int(shared[1]) if shared else 0)
    return found


def readable(mangled: str) -> str:
    """A kernel's name and its template's types; its namespaces say nothing, one has the hash of the file."""
    rest, name = mangled.removeprefix("_ZN"), ""
    while match := re.match(r"\d+", rest):
        length = int(match[0])
        name, rest = rest[match.end() : match.end() + length], rest[match.end() + length :]
    types = re.match(r"I(\w*?)E", rest)
    return f"{name}<{', '.join(TYPES[letter] for letter in types[1])}>" if types else name


def recorded() -> dict[str, object]:
    return json.loads(TABLE.read_text())


if __name__ == "__main__":
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(each)}" for name, each in sorted(kernels().items()))
    TABLE.write_text(f'{{\n  "nvcc": "{version()}",\n  "kernels": {{\n{lines}\n  }}\n}}\n')
