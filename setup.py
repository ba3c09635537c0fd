"""Builds fedlps_kernels._native with CMake and ninja; everything else about the package is in pyproject.toml.

FEDLPS_NATIVE=auto|on|off         auto: build the native module if there is a C++ compiler; off: leave it out.
FEDLPS_CUDA=auto|on|off           auto: build its CUDA part if there is a CUDA compiler; on: fail if there is none.
FEDLPS_SANITIZE=address,undefined instrument the module with these sanitizers.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
SANITIZERS = ("address", "undefined", "thread", "leak")


def setting(name: str) -> str:
    """The value of an auto|on|off variable of the environment."""
    value = os.environ.get(name, "auto")
    if value not in ("auto", "on", "off"):
        sys.exit(f"{name}: got {value!r}, expected auto, on or off")
    return value


def sanitizers() -> list[str]:
    chosen = [name for name in os.environ.get("FEDLPS_SANITIZE", "").split(",") if name]
    for name in chosen:
        if name not in SANITIZERS:
            sys.exit(f"FEDLPS_SANITIZE: got {name!r}, expected any of {', '.join(SANITIZERS)}, separated by commas")
    return chosen


def has_compiler() -> bool:
    names = [os.environ["CXX"].split()[0]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    return any(shutil.which(name) for name in names)


def builds_native() -> bool:
    native, cuda = setting("FEDLPS_NATIVE"), setting("FEDLPS_CUDA")
    sanitizers()
    if native == "on" and not has_compiler():
        sys.exit("FEDLPS_NATIVE=on, but there is no C++ compiler: install g++ or clang++, or name one in CXX")
    if native == "off" and cuda == "on":
        sys.exit("FEDLPS_CUDA=on needs the native module, but FEDLPS_NATIVE=off")
    return native == "on" or (native == "auto" and has_compiler())


class CMakeBuild(build_ext):
    """Configures and builds in build/<python tag>, which stays, so that the next build is quick."""

    def build_extension(self, extension: Extension) -> None:
        import pybind11

        target = Path(self.get_ext_fullpath(extension.name)).resolve()
        instruments = sanitizers()
        tag = "-".join([sys.implementation.cache_tag, sysconfig.get_platform(), *instruments])
        folder = ROOT / "build" / tag
        cmake = shutil.which("cmake", path=search_path()) or sys.exit("cmake is missing: pip install cmake")
        ninja = shutil.which("ninja", path=search_path()) or sys.exit("ninja is missing: pip install ninja")
        configure = [
            *(cmake, "-S", str(ROOT), "-B", str(folder), "-G", "Ninja"),
            f"-DCMAKE_MAKE_PROGRAM={ninja}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DFEDLPS_CUDA={setting('FEDLPS_CUDA')}",
            f"-DFEDLPS_SANITIZE={','.join(instruments)}",
            f"-DFEDLPS_MODULE={target.name}",
        ]
        cache = folder / "CMakeCache.txt"
        if cache.exists() and not Path(cached(cache, "CMAKE_MAKE_PROGRAM")).exists():
            shutil.rmtree(folder)  # made by an isolated build, whose tools are gone
        try:
            subprocess.run(configure, check=True)
            subprocess.run([cmake, "--build", str(folder), "--target", "_native"], check=True)
        except subprocess.CalledProcessError as error:
            step = "configuring" if error.cmd is configure else "compiling"
            sys.exit(f"fedlps_kernels._native: {step} failed, see above; FEDLPS_NATIVE=off installs without it")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / target.name, target)


class EditableWheel(editable_wheel):
    """Without the native module, an earlier build's must not be found beside the sources."""

    def run(self) -> None:
        if not self.distribution.ext_modules:
            for stale in (ROOT / "fedlps_kernels").glob(f"_native*{sysconfig.get_config_var('EXT_SUFFIX')}"):
                stale.unlink()
        super().run()


def search_path() -> str:
    """Tools installed beside this Python come first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def cached(cache: Path, name: str) -> str:
    """A value of a CMake cache, empty if it is not there."""
    found = [line for line in cache.read_text().splitlines() if line.startswith(f"{name}:")]
    return found[0].partition("=")[2] if found else ""


setup(
    ext_modules=[Extension("fedlps_kernels._native", sources=[])] if builds_native() else [],
    cmdclass={"build_ext": CMakeBuild, "editable_wheel": EditableWheel},
)
