"""How an op becomes one of torch's, so that torch.compile and automatic differentiation know it.

`torch.library.custom_op` registers the same, but its ops import torch._dynamo at their first call: a second, a third of
a short run.
"""

from collections.abc import Callable
from typing import Any

import torch

Op = Callable[..., Any]


def operator(name: str, fake: Op) -> Callable[[Op], Op]:
    """Registers the decorated function as torch.ops.fedlps.<name> for every device, and returns that.

    The function changes no argument and returns new tensors; its annotations are the schema. fake: says the shape and
    dtype of what it returns, from tensors without memory.
    """

    def register(function: Op) -> Op:
        torch.library.define(f"fedlps::{name}", torch.library.infer_schema(function, mutates_args=()))
        torch.library.impl(f"fedlps::{name}", "default", function)
        torch.library.register_fake(f"fedlps::{name}", fake)
        registered: Op = getattr(torch.ops.fedlps, name).default
        return registered

    return register


def differentiable(name: str, backward: Op, save: Op) -> None:
    """Gives an op its gradient: save(ctx, inputs, output) in the forward pass, backward(ctx, gradient) behind it."""
    torch.library.register_autograd(f"fedlps::{name}", backward, setup_context=save)
