"""What the build's variables refuse, what the native module links, and what `backends` says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fedlps_kernels import backends, native

ROOT = Path(__file__).parents[2]
needs_native = pytest.mark.skipif(native.module() is None, reason=native.why_not() or "built")


def setup_with(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FEDLPS_")}
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", "--version"],
        cwd=ROOT,
        env={**environment, **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"FEDLPS_NATIVE": "yes"}, "FEDLPS_NATIVE: got 'yes', expected auto, on or off"),
        ({"FEDLPS_CUDA": "13"}, "FEDLPS_CUDA: got '13', expected auto, on or off"),
        (
            {"FEDLPS_SANITIZE": "address,memory"},
            "FEDLPS_SANITIZE: got 'memory', expected any of address, undefined, thread, leak, separated by commas",
        ),
        (
            {"FEDLPS_NATIVE": "off", "FEDLPS_CUDA": "on"},
            "FEDLPS_CUDA=on needs the native module, but FEDLPS_NATIVE=off",
        ),
        (
            {"FEDLPS_NATIVE": "on", "CXX": "no-such-compiler"},
            "FEDLPS_NATIVE=on, but there is no C++ compiler: install g++ or clang++, or name one in CXX",
        ),
    ],
)
def test_the_build_refuses(variables, message):
    result = setup_with(**variables)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == message


def test_the_build_does_without_a_compiler():
    assert setup_with(CXX="no-such-compiler").returncode == 0


@pytest.mark.parametrize("isa", ["sse9", "AVX2"])
@needs_native
def test_an_instruction_set_that_is_not_here(monkeypatch, isa):
    monkeypatch.setenv("FEDLPS_ISA", isa)
    allowed = ", ".join(native.module().available_isas())
    with pytest.raises(
        ValueError, match=rf"^FEDLPS_ISA: got '{isa}', expected one of those this machine runs: {allowed}$"
    ):
        native.load.__wrapped__()
    with pytest.raises(ValueError, match=rf"^instruction set: got '{isa}', expected one of those this machine runs: "):
        native.module().use_isa(isa)


@needs_native
def test_an_instruction_set_can_be_named(monkeypatch):
    module = native.module()
    before = module.isa()
    monkeypatch.setenv("FEDLPS_ISA", "baseline")
    try:
        assert native.load.__wrapped__() == (module, "")
        assert module.isa() == "baseline"
        assert backends()[0].cpu == "native (baseline)"
        if len(module.available_isas()) > 1:
            assert f"cpu: baseline was asked for, {module.available_isas()[-1]} would run" in backends()[0].why
    finally:
        module.use_isa(before)


def test_native_can_be_left_unused(monkeypatch):
    monkeypatch.setenv("FEDLPS_NATIVE", "off")
    unused = native.load.__wrapped__()
    assert unused == (None, "FEDLPS_NATIVE=off")
    monkeypatch.setattr(native, "load", lambda: unused)
    monkeypatch.setattr(native, "why_no_cuda", native.why_no_cuda.__wrapped__)
    assert {(line.cpu, line.cuda) for line in backends()} == {("definition", "definition")}
    assert backends()[0].why.startswith("cpu: FEDLPS_NATIVE=off; cuda: ")
    assert native.serving(torch.zeros(1)) is None


def test_a_missing_module_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "fedlps_kernels._native", None)
    monkeypatch.delenv("FEDLPS_NATIVE", raising=False)
    module, why = native.load.__wrapped__()
    assert module is None
    assert why == "the native module is not built: install with a C++ compiler and without FEDLPS_NATIVE=off"
    monkeypatch.setenv("FEDLPS_NATIVE", "on")
    with pytest.raises(ValueError, match=r"^FEDLPS_NATIVE: got 'on', but the native module is not built"):
        native.load.__wrapped__()


def test_native_must_be_a_known_word(monkeypatch):
    monkeypatch.setenv("FEDLPS_NATIVE", "maybe")
    with pytest.raises(ValueError, match=r"^FEDLPS_NATIVE: got 'maybe', expected auto, on or off$"):
        native.load.__wrapped__()


def test_backends_name_every_op():
    lines = backends()
    assert [line.op for line in lines] == [
        *("unit_abs_sum", "select_units", "importance_step", "gather_weights", "scatter_update"),
        *("grouped_linear", "grouped_conv2d", "unit_norm", "scatter_aggregate"),
    ]
    for line in lines:
        assert hasattr(torch.ops.fedlps, line.op)
        assert "\n" not in line.why


RUNTIME = {"architectures": "sm_80", "runtime": 13000, "driver": 13010, "capabilities": [(9, 0), (8, 0)]}


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (RUNTIME, ""),
        (None, "the native module has no CUDA part: install where nvcc is found, or with FEDLPS_CUDA=on"),
        ({**RUNTIME, "driver": 0}, "there is no CUDA driver here"),
        (
            {**RUNTIME, "driver": 12040},
            "the driver serves CUDA 12.4, older than the runtime's 13.0: install a newer driver",
        ),
        ({**RUNTIME, "capabilities": []}, "the driver finds no GPU"),
        ({**RUNTIME, "capabilities": [(9, 0), (7, 5)]}, "GPU 1 is sm_75, older than sm_80"),
    ],
)
def test_the_cuda_part_says_why_it_does_not_serve(monkeypatch, found, why):
    module = SimpleNamespace(cuda=lambda: found, isa=lambda: "avx2", available_isas=lambda: ["avx2"])
    monkeypatch.setattr(native, "load", lambda: (module, ""))
    monkeypatch.setattr(native, "why_no_cuda", native.why_no_cuda.__wrapped__)
    assert native.why_no_cuda() == why
    of_op = {line.op: line for line in backends()}
    if why:
        assert (of_op["select_units"].cuda, of_op["select_units"].why) == ("definition", f"cuda: {why}")
    else:
        serving = "native (built for sm_80 with runtime 13.0, driver for 13.1, sm_90, sm_80)"
        assert (of_op["select_units"].cuda, of_op["select_units"].why) == (serving, "")
    assert of_op["unit_norm"].why.startswith("cuda: no kernels of its own yet (")


def test_a_call_without_a_cuda_part_is_one_line(monkeypatch):
    monkeypatch.setattr(native, "load", lambda: (None, "FEDLPS_NATIVE=off"))
    monkeypatch.setattr(native, "why_no_cuda", native.why_no_cuda.__wrapped__)
    with pytest.raises(RuntimeError, match=r"^cuda: got a call, but FEDLPS_NATIVE=off$"):
        native.gpu()


@needs_native
def test_a_wrong_dtype_never_reaches_memory():
    groups, scores, counts = torch.tensor([0, 1]), torch.zeros(1, 1).half(), torch.zeros(1, 1).int()
    arrays = native.arrays(groups, scores, counts, counts)
    with pytest.raises(ValueError, match=r"^dtype: got float16, expected float32 or float64$"):
        native.module().select_units(*arrays, 1)


def test_no_instruction_set_leaks_into_another():
    """A weak symbol outside its own namespace, compiled for AVX-512, could be the one the linker keeps for all."""
    folders = sorted(ROOT.glob(f"build/{sys.implementation.cache_tag}-*/CMakeFiles/kernels_*.dir"))
    folders = [folder for folder in folders if "address" not in str(folder) and "undefined" not in str(folder)]
    if not folders:
        pytest.skip("no build folder: not installed from this tree")
    nm = shutil.which("nm")
    for folder in folders:
        isa = folder.name.removeprefix("kernels_").removesuffix(".dir")
        objects = [str(path) for path in folder.rglob("*.o")]
        assert objects
        listing = subprocess.run([nm, "-C", *objects], capture_output=True, text=True, check=True).stdout
        weak = [line for line in listing.splitlines() if line[17:18] in ("W", "V", "u")]
        assert [line for line in weak if f"fedlps::{isa}::" not in line] == []
