"""unit_norm and its gradient: python -m pytest -s bench/kernels/unit_norm.py; on a GPU, with ReLU and pool, -m gpu"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.kernels.device import report
from bench.kernels.layers import BATCH, RATIOS
from bench.kernels.measure import compare
from bench.kernels.mixes import BATCH as PAPERS
from bench.kernels.mixes import STAGES, cases, ratios
from bench.kernels.stages import Stages, stage
from fedlps_kernels import unit_norm
from fedlps_kernels.unit_norm import definition

SHAPES = {"VGG's first": (64, 32), "VGG's third": (256, 8), "VGG's last": (512, 2)}  # units, height and width


def tensors_of(shape: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Inputs, scale, shift and the gradient of the outputs; the counts. Ten clients of five ratios."""
    units, size = SHAPES[shape]
    generator, clients = torch.Generator().manual_seed(0), len(RATIOS)
    rows = [max(int(ratio * units), 1) for ratio in RATIOS]
    counts = [torch.tensor(each, dtype=torch.int32) for each in ([BATCH] * clients, rows)]
    maps = (clients, BATCH, units, size, size)
    return [torch.randn(each, generator=generator) for each in (maps, (clients, units), (clients, units), maps)], counts


def parts(tensors: list[torch.Tensor], counts: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Of each client its own part, contiguous: what torch gets beforehand."""
    inputs, scale, shift, gradient = tensors
    return [
        [inputs[client, :, :o].contiguous(), scale[client, :o], shift[client, :o], gradient[client, :, :o].contiguous()]
        for client, o in enumerate(counts[1].tolist())
    ]


def torchs(inputs: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.batch_norm(inputs, None, None, scale, shift, training=True)


def moved_bytes(shape: str, counts: list[torch.Tensor], tensors: int) -> int:
    """Of the clients' parts of so many tensors."""
    return 4 * tensors * BATCH * SHAPES[shape][1] ** 2 * int(counts[1].sum())


def check(alternatives: dict[str, Callable[[], Any]]) -> None:
    torch.testing.assert_close(alternatives["op"](), alternatives["definition"](), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward(benchmark, shape):
    tensors, counts = tensors_of(shape)
    own = parts(tensors, counts)
    alternatives = {
        "op": lambda: unit_norm(*tensors[:3], *counts),
        "torch, parts given": lambda: [torchs(*each[:3]) for each in own],
        "definition": lambda: definition.unit_norm(*tensors[:3], *counts),
    }
    check(alternatives)
    compare(benchmark, alternatives, moved_bytes=moved_bytes(shape, counts, 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient(benchmark, shape):
    tensors, counts = tensors_of(shape)
    leaves = [tensor.requires_grad_() for tensor in tensors[:3]]
    outputs = {
        name: forward(*leaves, *counts) for name, forward in (("op", unit_norm), ("definition", definition.unit_norm))
    }
    own = [([value.detach().requires_grad_() for value in each[:3]], each[3]) for each in parts(tensors, counts)]
    graphs = [(torchs(*values), values, behind) for values, behind in own]
    alternatives = {
        "op": lambda: torch.autograd.grad(outputs["op"], leaves, tensors[3], retain_graph=True),
        "torch, parts given": lambda: [torch.autograd.grad(*graph, retain_graph=True) for graph in graphs],
        "definition": lambda: torch.autograd.grad(outputs["definition"], leaves, tensors[3], retain_graph=True),
    }
    torch.testing.assert_close(alternatives["op"](), alternatives["definition"](), rtol=1e-3, atol=1e-2)
    compare(benchmark, alternatives, moved_bytes=moved_bytes(shape, counts, 3))


@pytest.mark.gpu
@pytest.mark.parametrize(("clients", "mix", "precision"), cases())
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "gradient"])
def test_vgg11_on_a_gpu(gpu, benchmark, backward, clients, mix, precision):
    found = []
    for name, (channels, size, pooled) in STAGES.items():
        kept = [max(int(ratio * channels), 1) for ratio in ratios(mix, clients)]
        found.append(stage(name, Stages(kept, channels, size, PAPERS, pooled, gpu, precision), backward=backward))
    report(benchmark, found, op="unit_norm", direction="gradient" if backward else "forward", clients=clients, mix=mix)
