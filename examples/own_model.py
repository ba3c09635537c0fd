"""Train your own model: first a chain, which needs nothing from you, then one that is no chain.

    python examples/own_model.py [ROUNDS]

A sequential model of convolution, linear, ReLU, pooling and flatten is understood as it is. Any other module trains as
well: its units are thinned wherever the layers behind them allow it, and the run's first line says what stands in the
way of the fast executors.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import fedlps


def chain() -> nn.Module:
    """Eight by eight pixels in, ten classes out."""
    return nn.Sequential(
        nn.Conv2d(1, 12, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, kernel_size=3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 2 * 2, 10),
    )


class Residual(nn.Module):
    """A residual block with GELU: its two convolutions share their units, because their outputs are added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, kernel_size=3, padding=1)
        self.block = nn.Conv2d(16, 16, kernel_size=3, padding=1)
        self.pool = nn.AvgPool2d(4)
        self.head = nn.Linear(16 * 2 * 2, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (batch, 10) of images (batch, 1, 8, 8)."""
        stem = nn.functional.gelu(self.stem(images))
        mixed = nn.functional.gelu(self.block(stem) + stem)
        return self.head(torch.flatten(self.pool(mixed), 1))


def main(rounds: int) -> None:
    """Train both for some rounds on the embedded digits and print the last accuracies."""
    with tempfile.TemporaryDirectory() as folder:
        for name, model in (("chain", chain()), ("residual", Residual())):
            run = fedlps.run("digits", model=model, out=Path(folder) / name, overrides={"rounds": rounds})
            print(f"{name}: {run.notes[0]}")
            print(f"{name}: test_last {run.metrics['test_last'][-1]:.1f} % after {rounds} rounds")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
