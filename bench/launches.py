"""Which kernels the CUDA executor launches in one step, counted while it makes them; none of them runs."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bench.rounds.case import RATIOS, fedlps_case, vgg_network
from fedlps.engine.cuda.buffers import Buffers
from fedlps.engine.cuda.executor import CudaExecutor
from fedlps.engine.cuda.launches import Launches, Precision
from fedlps.engine.cuda.tiled import TiledProducts

BATCH = 20
KERNELS = {
    "dropped_sums": ("dropped sums", 3),  # ranks are cleared, then found
    "select_units": ("select units", 1),
    "move": ("pack weights", 1),
    "importance_step": ("importance step", 1),
    "scatter_update": ("update", 1),  # 3 with clip
}


class Products(TiledProducts):
    """The launches of `TiledProducts`: those that split a sum are followed by one that adds the parts."""

    made: Counter[str]

    def gather(self, *_: Any) -> None:
        """One."""
        self.made["gather batch"] += 1

    def forward(self, inputs: Any, weights: Any, layer: int, *_: Any) -> None:
        """One per layer."""
        self.made[f"forward {layer + 1}"] += 1

    def input_gradient(self, gradient: Any, weights: Any, layer: int, *_: Any) -> None:
        """One per layer but the first."""
        self.made[f"input gradient {layer + 1}"] += 1

    def weight_gradient(self, inputs: Any, gradient: Any, layer: int, *_: Any) -> None:
        """One or two."""
        self.made[f"weight gradient {layer + 1}"] += self._launches("weight_gradient", layer)

    def statistics(self, inputs: Any, samples: Any, norm: Any) -> None:
        """One or two."""
        self.made["norm statistics"] += self._launches("sums", norm.layer)

    def stage(self, *_: Any) -> None:
        """One."""
        self.made["norm, ReLU, pool"] += 1

    def stage_gradient(self, inputs: Any, gradient: Any, samples: Any, result: Any, chain: Any, vectors: Any) -> None:
        """One, and the sums of a norm."""
        self.made["norm, ReLU, pool gradient"] += 1
        if chain.norm is not None:
            self.made["norm gradient sums"] += self._launches("sums", chain.norm.layer)

    def loss(self, *_: Any) -> None:
        """One."""
        self.made["loss"] += 1

    def _launches(self, name: str, number: int) -> int:
        return 1 + (self._tiles[name, number].splits > 1)


class Weights:
    """The launches of `ScatteredWeights` (csrc/cuda)."""

    def __init__(self, made: Counter[str]) -> None:
        self.made = made

    def __getattr__(self, method: str) -> Callable[..., None]:
        name, kernels = KERNELS.get(method, (method, 1))

        def launch(*_: Any, **__: Any) -> None:
            self.made[name] += kernels

        return launch


class Torch(TorchDispatchMode):
    """Counts what torch itself launches: every operation but views."""

    def __init__(self, made: Counter[str]) -> None:
        super().__init__()
        self.made = made

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        """One operation."""
        if not function.is_view and function is not torch.ops.aten.empty.memory_format:
            self.made["torch: step's tables, losses, who has diverged"] += 1
        return function(*arguments, **(named or {}))


@cache
def _made(precision: Precision) -> Counter[str]:
    made: Counter[str] = Counter()
    case = fedlps_case(RATIOS, vgg_network(), samples=BATCH, epochs=1, batch=BATCH)
    products = Products(case.layout, precision, Buffers(torch.device("cpu")))
    products.made = made
    told = {"device": "cpu", "precision": precision, "batch": BATCH}
    executor = CudaExecutor(case.program, case.store, launches=Launches(products, Weights(made)), **told)

    def once(step: Callable[[], None], steps: int, key: object) -> None:
        made.clear()
        with Torch(made):
            step()
        raise InterruptedError

    executor.graphs.run = once
    with suppress(InterruptedError):
        executor.train(case.parameters, case.plan, case.cohort)
    return made


def launches_of_a_step(precision: Precision) -> Counter[str]:
    """By what they do, in a step of FedLPS on VGG11 whatever the number of clients."""
    return Counter(_made(precision))
