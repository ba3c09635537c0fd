"""How close is close enough: derived from torch's own error in the same dtype, never guessed."""

from collections.abc import Callable

import pytest
import torch


def assert_same(name: str, got: torch.Tensor, want: torch.Tensor) -> None:
    """The same bits (NaN included), dtype and shape."""
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True, msg=lambda text: f"{name}: {text}")


def assert_no_worse_than_torch(name: str, got: torch.Tensor, torchs: torch.Tensor, exact: torch.Tensor) -> None:
    """At most twice the error of torch's result against float64, and one rounding of the largest entry."""
    assert got.dtype == torchs.dtype, name
    assert got.shape == exact.shape, name
    if got.numel() == 0:
        return
    allowed = 2 * (torchs - exact).abs().max() + torch.finfo(got.dtype).eps * exact.abs().max()
    error = (got - exact).abs().max()
    assert error <= allowed, f"{name}: error {error:.3g}, torch allows {allowed:.3g}"


def refuses(
    call: Callable[..., object],
    arguments: dict[str, object],
    changes: dict[str, object],
    error: type[Exception],
    text: str,
) -> None:
    """The call with these changes raises one line that contains the text."""
    with pytest.raises(error) as raised:
        call(**{**arguments, **changes})
    message = str(raised.value)
    assert "\n" not in message, message
    assert text in message, message
