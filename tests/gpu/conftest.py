"""A GPU that the CUDA part serves."""

import pytest
import torch

from fedlps_kernels import native


@pytest.fixture(scope="session")
def gpu() -> str:
    """Its name for torch."""
    why = native.why_no_cuda() or ("" if torch.cuda.is_available() else "torch finds no GPU")
    if why:
        pytest.skip(why)
    return "cuda"


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """A GPU, or the CPU with definitions in the kernels' place."""
    if request.param == "cuda":
        request.getfixturevalue("gpu")
    return request.param
