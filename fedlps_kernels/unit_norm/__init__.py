"""Batch-statistics norm per client and unit, for clients of unequal sizes, and its gradient."""

from typing import Any

import torch

from fedlps_kernels import checks, launching, native
from fedlps_kernels.operator import differentiable, operator
from fedlps_kernels.unit_norm import definition


def unit_norm(
    inputs: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, samples: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    """Each client's leading rows (units), normed over its leading samples and all positions, times scale, plus shift.

    (x - mean) / sqrt(variance + 1e-5) * scale + shift, the variance biased (Ioffe and Szegedy, ICML 2015, algorithm 1).
    Of a single value the variance is 0: the unit outputs its shift.
    C clients; room for N samples and O rows. inputs: (C, N, O) or (C, N, O, H, W) float32 or float64, contiguous.
    scale, shift: (C, O), the same dtype. samples, rows: (C,) int32, 0 <= count <= N, O. Entries beyond are not read.
    Returns the inputs' shape and dtype, zeros beyond a client's counts, in gradients too.
    Differentiable, twice too, in inputs, scale and shift.
    Raises TypeError for another dtype; ValueError for another shape, device, strides or counts.
    """
    outputs: torch.Tensor = _forward(inputs, scale, shift, samples, rows)
    return outputs


def _check(
    inputs: torch.Tensor,
    vectors: dict[str, torch.Tensor],
    gradient: torch.Tensor | None,
    samples: torch.Tensor,
    rows: torch.Tensor,
) -> None:
    letters = "CNOHW" if isinstance(inputs, torch.Tensor) and inputs.dim() == 5 else "CNO"
    checks.tensor("inputs", inputs, dict.fromkeys(letters), checks.FLOATS)
    sizes, same = dict(zip(letters, inputs.shape, strict=True)), ((inputs.dtype,), inputs.device)
    for name, vector in vectors.items():
        checks.tensor(name, vector, {"C": sizes["C"], "O": sizes["O"]}, *same)
    if gradient is not None:
        checks.tensor("gradient", gradient, sizes, *same)
    checks.parts({"samples": samples, "rows": rows}, sizes["C"], (sizes["N"], sizes["O"]), inputs.device)


@operator("unit_norm", lambda inputs, *_: inputs.new_empty(inputs.shape))
def _forward(
    inputs: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, samples: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    _check(inputs, {"scale": scale, "shift": shift}, None, samples, rows)
    if launching.serves(inputs) and inputs.numel():
        from fedlps_kernels.unit_norm import packed

        return packed.unit_norm(inputs, scale, shift, samples, rows)
    module = native.serving(inputs)
    if module is None:
        return definition.unit_norm(inputs, scale, shift, samples, rows)
    outputs = inputs.new_zeros(inputs.shape)
    given = *native.arrays(inputs, scale, shift), native.arrays(samples, rows)
    module.norm_forward(*given, native.array(outputs), native.threads())
    return outputs


def _fake_gradient(inputs: Any, gradient: Any, scale: Any, *_: Any) -> tuple[Any, Any, Any]:
    return inputs.new_empty(inputs.shape), scale.new_empty(scale.shape), scale.new_empty(scale.shape)


@operator("unit_norm_gradient", _fake_gradient)
def _gradient(
    inputs: torch.Tensor, gradient: torch.Tensor, scale: torch.Tensor, samples: torch.Tensor, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    _check(inputs, {"scale": scale}, gradient, samples, rows)
    if launching.serves(inputs) and inputs.numel():
        from fedlps_kernels.unit_norm import packed

        return packed.gradient(inputs, gradient, scale, samples, rows)
    module = native.serving(inputs)
    if module is None:
        return definition.gradient(inputs, gradient, scale, samples, rows)
    results = inputs.new_zeros(inputs.shape), scale.new_zeros(scale.shape), scale.new_zeros(scale.shape)
    given = *native.arrays(inputs, gradient, scale), native.arrays(samples, rows)
    module.norm_gradient(*given, *native.arrays(*results), native.threads())
    return results


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    values, scale, _, samples, rows = inputs
    ctx.save_for_backward(values, scale, samples, rows)


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    inputs, scale, samples, rows = ctx.saved_tensors
    return *_gradient(inputs, gradient.contiguous(), scale, samples, rows), None, None


def _save_gradient(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs)


def _gradient_backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """The definition's: nothing trains with second derivatives of a norm."""
    inputs, gradient, scale, samples, rows = ctx.saved_tensors
    with torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in (inputs, gradient, scale)]
        results = definition.gradient(leaves[0], leaves[1], leaves[2], samples, rows)
        return *torch.autograd.grad(results, leaves, gradients), None, None


differentiable("unit_norm", _backward, _save)
differentiable("unit_norm_gradient", _gradient_backward, _save_gradient)
