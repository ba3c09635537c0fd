"""What a GPU's result may differ by from its definition in float64."""

import torch

from tests.kernels.compare import assert_same

# 7.4 of the kernels' notes: sums of float32 in any order come to some 4e-7 of the result's norm
ALLOWED = {torch.float32: 2e-6, torch.float64: 1e-14}


def assert_near(name: str, got: torch.Tensor, want: torch.Tensor) -> None:
    """The same bits where the definition gives the same dtype, else the relative norm of the difference."""
    got, want = got.cpu(), want.cpu()
    if got.dtype == want.dtype and got.dtype != torch.float64:
        assert_same(name, got, want)
        return
    assert got.shape == want.shape, name
    absent = want.isnan()
    assert torch.equal(got.isnan(), absent), f"{name}: not a number in other places"
    difference, whole = (got.double() - want)[~absent].norm(), want[~absent].norm()
    assert difference <= ALLOWED[got.dtype] * whole, f"{name}: relative error {difference / whole:.3g}"
