"""Whether a run works here, what it would use, and why nothing faster."""

import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from fedlps import __version__, data
from fedlps.errors import InputError
from fedlps.report.quantities import size

PACKAGES = ("numpy", "torch", "scikit-learn", "safetensors", "pydantic")
TRIAL = ("clients=4", "fraction=0.5", "epochs=1", "rounds=1")
MEMINFO = Path("/proc/meminfo")


class Finding(NamedTuple):
    """One thing looked at. broken: a run does not work because of it, or does not compute what it should."""

    subject: str
    text: str
    broken: bool = False


def findings() -> Iterator[Finding]:
    """Everything looked at, as it is found."""
    yield Finding("fedlps", __version__)
    yield Finding("python", f"{platform.python_version()} ({sys.executable}), {platform.platform(terse=True)}")
    for package in PACKAGES:
        yield _package(package)
    yield Finding("sqlite", sqlite3.sqlite_version)
    yield Finding("cores", f"{cores()} that this process may use, of {os.cpu_count()}")
    yield Finding("memory", _memory())
    try:
        yield from _computing()
        yield _trial()
    except (InputError, ValueError, ImportError, OSError) as error:
        yield Finding("run", str(error), broken=True)
    yield from data_sets()


def data_sets() -> Iterator[Finding]:
    """Each data set: where its files are, or where they were looked for."""
    collection = os.environ.get("FEDLPS_DATA")
    yield Finding("data", f"FEDLPS_DATA={collection}" if collection else "FEDLPS_DATA is not set: the user's cache")
    for name, entry in data.CATALOG.items():
        place = data.directory(name)
        if entry.embedded:
            text = entry.source
        elif missing := entry.missing(place, True):
            advice = f"fedlps data get {name}" if entry.files else entry.source
            text = f"not found in {place}: {len(missing)} files are missing ({advice})"
        elif entry.missing(place, False) or not entry.whole(place):
            text = f"found in part in {place}: runs with data.partial=true"
        else:
            text = f"found in {place}"
        yield Finding(name, text)


def _package(name: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "is not installed", broken=True)


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _memory() -> str:
    total = f"{size(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))}"
    lines = MEMINFO.read_text().splitlines() if MEMINFO.exists() else []
    available = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    return total if available is None else f"{total}, {size(available)} available"


def _computing() -> Iterator[Finding]:
    """What computes: the native module, CUDA, the ops, the executors; and whether it draws what it should."""
    import torch

    from fedlps.engine import executors
    from fedlps.engine.cuda import presence
    from fedlps.run.config import Config
    from fedlps.run.values import literals
    from fedlps.stream_check import streams_reproduce
    from fedlps_kernels import backends, native

    module = native.module()
    if module is None:
        yield Finding("native", f"does not serve: {native.why_not()}")
    else:
        yield Finding("native", f"{module.isa()} in use, available: {', '.join(module.available_isas())}")
    why = presence.why_not()
    yield Finding("cuda", f"{presence.versions()}; {f'not used: {why}' if why else 'used'}")
    serving: dict[str, list[str]] = {}
    for backend in backends():
        text = f"on the cpu {backend.cpu}, on cuda {backend.cuda}"
        text += f"; nothing faster: {backend.why}" if backend.why else ""
        serving.setdefault(text, []).append(backend.op)
    for text, ops in serving.items():
        yield Finding(", ".join(ops), text)
    yield Finding("threads", f"{torch.get_num_threads()} in torch")
    for name in literals(Config.model_fields["executor"].annotation):
        try:
            executors.check(executors.Request(executor=name))
            yield Finding(f"executor {name}", "runs here")
        except InputError as error:
            yield Finding(f"executor {name}", str(error).removeprefix("executor: "))
    difference = streams_reproduce()
    yield Finding("streams", difference or "every recorded draw comes out", broken=difference is not None)


def _trial() -> Finding:
    """One round with four clients, in a directory that is removed."""
    from fedlps.launch import run

    with tempfile.TemporaryDirectory() as directory:
        finished = run("digits", out=Path(directory) / "run", overrides=TRIAL)
    return Finding("run", f"a round with four clients works; {finished.notes[0]}")
