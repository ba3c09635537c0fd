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


def assert_rounded(name: str, got: torch.Tensor, exact: torch.Tensor, magnitude: torch.Tensor, terms: int) -> None:
    """A sum of so many products, in any order: each is rounded once, and each partial sum.

    exact: in float64. magnitude: the same sum of the products' absolute values.
    """
    assert got.shape == exact.shape, name
    error, allowed = (got - exact).abs(), (terms + 1) * torch.finfo(got.dtype).eps / 2 * magnitude
    worst = (error - allowed).argmax() if got.numel() else None
    assert worst is None or (error <= allowed).all(), (
        f"{name}: error {error.flatten()[worst]:.3g}, {terms} terms allow {allowed.flatten()[worst]:.3g}"
    )


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
