"""Compiles csrc/cuda/*.cu as C++, with shim/ in place of CUDA's headers and threads, as a Python module."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pybind11

ROOT = Path(__file__).parents[2]
SHIM = Path(__file__).parent / "shim"
KERNELS = [path for path in sorted((ROOT / "csrc/cuda").glob("*.cu")) if path.name != "runtime.cu"]
MODULE = [SHIM / "fibers.cpp", SHIM / "module.cpp", ROOT / "csrc/cuda_bindings.cpp"]  # never instrumented
COMPILER = shutil.which("g++")
OPTIONS = [
    "-std=c++20",
    "-fPIC",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
]
FOLDER = ROOT / "build/fibers"  # objects stay, so that only what changed is compiled again


def build(*sanitizers: str) -> dict[str, Path]:
    """For each sanitizer ("" for none) a module; they share what is not instrumented. Two at a time."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    headers = [Path(__file__), *SHIM.glob("*.h"), *(ROOT / "csrc").rglob("*.h")]
    newest = max(path.stat().st_mtime for path in headers)
    include = [f"-I{path}" for path in (SHIM, ROOT / "csrc", pybind11.get_include(), sysconfig.get_paths()["include"])]

    def compiled(source: Path, *options: str) -> str:
        target = FOLDER / f"{source.stem}{''.join(options)}.o".replace("=", "-")
        if target.exists() and target.stat().st_mtime > max(newest, source.stat().st_mtime):
            return str(target)
        made = target.with_suffix(f".{os.getpid()}")
        run([COMPILER, *OPTIONS, *options, *include, "-x", "c++", "-c", str(source), "-o", str(made)])
        made.replace(target)
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        shared = [pool.submit(compiled, source, "-O0") for source in MODULE]
        kernels = {
            name: [pool.submit(compiled, source, "-O1", "-g1", *instrumented(name)) for source in KERNELS]
            for name in sanitizers
        }
        modules = {}
        for name, waiting in kernels.items():
            modules[name] = FOLDER / (name or "plain") / "_fibers.so"
            modules[name].parent.mkdir(exist_ok=True)
            objects = [each.result() for each in (*shared, *waiting)]
            made = modules[name].with_suffix(f".{os.getpid()}")
            run([COMPILER, "-shared", *instrumented(name), *objects, "-o", str(made)])
            made.replace(modules[name])
    return modules


def instrumented(sanitizer: str) -> list[str]:
    return [f"-fsanitize={sanitizer}"] if sanitizer else []


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("_fibers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode or result.stderr:
        sys.exit(f"{' '.join(command)}\n{result.stderr}")
