"""E-UCB: a bandit over a range of ratios whose leaves get finer where it is used, and whose past fades.

The leaves cut the range; a pull is a uniform ratio inside the leaf of the largest upper confidence bound, and cuts that
leaf in two where it fell, unless the leaf is small already. Statistics are discounted by every later pull.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy


@dataclass(frozen=True)
class Agent:
    """One client's agent; `pulled` returns a new one. Leaf j is [edges[j], edges[j + 1]); the last has its end too.

    ratios, rewards: of all pulls so far, in order. loss: mean training loss of the latest participation, NaN before the
    first, which earns no reward and is no pull. taken: participations, which number the streams.
    """

    edges: tuple[float, ...]
    ratios: tuple[float, ...] = field(default=())
    rewards: tuple[float, ...] = field(default=())
    loss: float = math.nan
    taken: int = 0

    def values(self, discount: float) -> list[float]:
        """The upper confidence bound of every leaf; infinite where no pull lies."""
        ages = numpy.arange(len(self.ratios))[::-1]
        weights = discount ** ages.astype(numpy.float64)
        leaves = numpy.array([self.leaf(ratio) for ratio in self.ratios], dtype=numpy.int64)
        number = len(self.edges) - 1
        pulls = numpy.bincount(leaves, weights, number).tolist()
        sums = numpy.bincount(leaves, weights * numpy.array(self.rewards), number).tolist()
        total = math.fsum(pulls)
        return [
            reward / count + math.sqrt(2 * max(math.log(total), 0.0) / count) if count > 0 else math.inf
            for count, reward in zip(pulls, sums, strict=True)
        ]

    def choose(self, discount: float, rng: numpy.random.Generator) -> float:
        """The next ratio: uniform in the best leaf, the first of equals."""
        values = self.values(discount)
        best = values.index(max(values))
        low, high = self.edges[best], self.edges[best + 1]
        return low + (high - low) * float(rng.random())

    def started(self, loss: float) -> Agent:
        """The agent after the first participation."""
        return replace(self, loss=loss, taken=1)

    def pulled(self, ratio: float, reward: float, loss: float, smallest: float) -> Agent:
        """The agent after a pull. smallest: leaves wider than this are cut where the pull fell."""
        leaf = self.leaf(ratio)
        low, high = self.edges[leaf], self.edges[leaf + 1]
        cut = (ratio,) if high - low > smallest and low < ratio < high else ()
        edges = (*self.edges[: leaf + 1], *cut, *self.edges[leaf + 1 :])
        return Agent(edges, (*self.ratios, ratio), (*self.rewards, reward), loss, self.taken + 1)

    def leaf(self, ratio: float) -> int:
        """The number of the leaf that a ratio lies in."""
        found = int(numpy.searchsorted(self.edges, ratio, side="right")) - 1
        return min(max(found, 0), len(self.edges) - 2)

    def to_arrays(self) -> dict[str, numpy.ndarray]:
        """The state for the store, float64: edges [I + 1], ratios and rewards [N], loss and taken [1]."""
        return {
            "edges": numpy.array(self.edges),
            "ratios": numpy.array(self.ratios, dtype=numpy.float64),
            "rewards": numpy.array(self.rewards, dtype=numpy.float64),
            "loss": numpy.array([self.loss]),
            "taken": numpy.array([self.taken], dtype=numpy.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, numpy.ndarray]) -> Agent:
        """The state that `to_arrays` wrote."""
        edges, ratios, rewards = (tuple(arrays[name].tolist()) for name in ("edges", "ratios", "rewards"))
        return cls(edges, ratios, rewards, float(arrays["loss"][0]), int(arrays["taken"][0]))
