"""The CUDA sources for every architecture: nothing spills, and the table of what kernels take is the recorded one."""

import pytest

from tests.compile import nvcc

SAID = """
ptxas info    : Compiling entry function '_ZN6fedlps4cuda12_GLOBAL__N_14moveIftEEvPKT_' for 'sm_90a'
ptxas info    : Function properties for _ZN6fedlps4cuda12_GLOBAL__N_14moveIftEEvPKT_
    24 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 70 registers, used 1 barriers, 24 bytes cumulative stack size, 17472 bytes smem, 628 bytes cmem[0]
ptxas info    : Compiling entry function '_ZN6fedlps4cuda5clearElPi' for 'sm_80'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
"""


@pytest.fixture(scope="module")
def kernels() -> dict[str, nvcc.Kernel]:
    if nvcc.NVCC is None:
        pytest.skip("no nvcc here")
    return nvcc.kernels()


def test_what_ptxas_says_is_read():
    moved = {"stack": 24, "spilled": 12, "registers": 70, "shared": 17472}
    cleared = {"stack": 0, "spilled": 0, "registers": 8, "shared": 0}
    assert nvcc.parsed("a.cu", SAID) == {"a.cu move<float, bfloat16> sm_90a": moved, "a.cu clear sm_80": cleared}


@pytest.mark.slow
def test_nothing_spills(kernels):
    assert len(kernels) >= 2 * len(nvcc.SOURCES)
    for name, kernel in kernels.items():
        assert kernel["stack"] == kernel["spilled"] == 0, name
        assert kernel["registers"] <= 128, name  # two blocks of 256 threads at once
        assert kernel["shared"] <= 48 * 1024, name


@pytest.mark.slow
def test_the_table_is_the_recorded_one(kernels):
    recorded = nvcc.recorded()
    if recorded["nvcc"] != nvcc.version():
        pytest.skip(f"nvcc is {nvcc.version()}, the table is of {recorded['nvcc']}: python -m tests.compile.nvcc")
    assert kernels == recorded["kernels"], "if this is meant to be so: python -m tests.compile.nvcc"
