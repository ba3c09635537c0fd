"""Layers of real rounds, of ten clients that keep 1, 1/2, 1/4, 1/8 and 1/16 of the units: two of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

RATIOS = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16) * 2
BATCH = 32


@dataclass(frozen=True)
class Layer:
    """One layer at full width. all_columns: every client keeps them all (the sample's channels).

    ratios: of each client. batch: its samples.
    """

    columns: int
    rows: int
    size: int = 1  # height and width of the inputs
    kernel: int = 1
    padding: int = 0
    all_columns: bool = False
    ratios: tuple[float, ...] = RATIOS
    batch: int = BATCH

    @property
    def out_size(self) -> int:
        return 1 + self.size + 2 * self.padding - self.kernel

    @property
    def counts(self) -> list[torch.Tensor]:
        """Of samples, columns and rows."""
        kept = [[max(int(ratio * most), 1) for ratio in self.ratios] for most in (self.columns, self.rows)]
        columns = [self.columns] * len(self.ratios) if self.all_columns else kept[0]
        return [torch.tensor(each, dtype=torch.int32) for each in ([self.batch] * len(self.ratios), columns, kept[1])]

    @property
    def operations(self) -> int:
        """Additions and multiplications of one pass, for all clients."""
        _, columns, rows = self.counts
        return 2 * self.batch * self.kernel**2 * self.out_size**2 * int((columns.long() * rows).sum())

    def tensors(self) -> list[torch.Tensor]:
        """Inputs, weights and the gradient of the outputs, with room for the widest client."""
        generator = torch.Generator().manual_seed(0)
        shapes = (
            (self.batch, self.columns, self.size, self.size),
            (self.rows, self.columns, self.kernel, self.kernel),
            (self.batch, self.rows, self.out_size, self.out_size),
        )
        return [torch.randn(len(self.ratios), *shape, generator=generator) for shape in shapes]

    def parts(self, *tensors: torch.Tensor) -> list[list[torch.Tensor]]:
        """Of inputs, weights and gradient each client's own part, contiguous: what torch gets beforehand."""
        samples, columns, rows = (each.tolist() for each in self.counts)
        used = (samples, columns), (rows, columns), (samples, rows)
        return [
            [client[:first, :second].contiguous() for client, first, second in zip(tensor, *counts, strict=True)]
            for tensor, counts in zip(tensors, used, strict=True)
        ]

    @staticmethod
    def check(alternatives: Mapping[str, Callable[[], Any]]) -> None:
        """The op equals its definition."""
        got, wanted = alternatives["op"](), alternatives["definition"]()
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


CONVOLUTIONS = {
    "MNIST's first": Layer(1, 10, size=28, kernel=5, all_columns=True),
    "MNIST's second": Layer(10, 20, size=12, kernel=5),
    "VGG's third": Layer(128, 256, size=8, kernel=3, padding=1),
}
LINEARS = {"MNIST's hidden": Layer(320, 50), "1024 units": Layer(1024, 1024)}
