"""The kernels under sanitizers, without Python and torch in the process."""

import os
import subprocess
import sys
from pathlib import Path

import pybind11
import pytest

from fedlps_kernels import native

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(("sanitizers", "isas"), [("address,undefined", None), ("thread", ["baseline"])])
@pytest.mark.skipif(not (ROOT / "CMakeLists.txt").exists() or native.module() is None, reason="no native module here")
def test_kernels_are_clean(tmp_path, sanitizers, isas):
    """Threads are the same for every instruction set, so one is enough for them."""
    options = [
        *([f"-DFEDLPS_ISAS={';'.join(isas)}"] if isas else []),
        f"-DFEDLPS_SANITIZE={sanitizers}",
        "-DFEDLPS_CUDA=off",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
    ]
    tools = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    for command in (
        ["cmake", "-S", ROOT, "-B", tmp_path, "-G", "Ninja", *options],
        ["cmake", "--build", tmp_path, "--target", "sanitized"],
    ):
        built = subprocess.run(command, env=tools, capture_output=True, text=True)
        assert built.returncode == 0, built.stdout + built.stderr
    halting = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "halt_on_error=1", "TSAN_OPTIONS": "halt_on_error=1"}
    result = subprocess.run([tmp_path / "sanitized"], capture_output=True, text=True, env=halting)
    assert result.returncode == 0, result.stderr
    wanted = "".join(f"{isa}: clean\n" for isa in isas or native.module().available_isas())
    assert result.stdout == wanted
