"""P-UCBV: one bandit per client picks the ratio of units it trains with.

Partitions of the ratio's range hold the rewards (accuracy gained per unit of cost) seen in them; a pull splits its
partition where it fell, so the range gets finer where it is used. Algorithm 2 and equations (16), (17) of "Learnable
Sparse Customization in Heterogeneous Edge Computing"; the logarithm of (17) is floored at 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy

from fedlps.randomness import Purpose, stream

TIE = 1e-15  # values this close to the largest count as equal, and a draw picks among them


@dataclass(frozen=True, kw_only=True)
class BanditParameters:
    """What all clients' bandits share.

    arms: (low, high), the range of ratios. initial: number of equal partitions at the start (I_0). rho: weight of
    exploration. delta: an accuracy that changed by less than this removes the ratios below the one used (Delta).
    xi: participations a client can expect, rounds / (clients * fraction).
    """

    xi: float
    arms: tuple[float, float] = (0.0, 1.0)
    initial: int = 5
    rho: float = 0.5
    delta: float = -0.05


@dataclass(frozen=True)
class Partition:
    """Ratios in [low, high) and the rewards seen there."""

    low: float
    high: float
    rewards: tuple[float, ...] = ()

    def distance(self, ratio: float) -> float:
        """How far a ratio lies from the closed interval; 0 inside."""
        return max(self.low - ratio, ratio - self.high, 0.0)


@dataclass(frozen=True)
class Bandit:
    """The state of one client's bandit; `update` returns a new one.

    partitions: ordered and disjoint, at least one; gaps are ranges that were eliminated. epsilon: 1, halved by every
    update. ratio: the decision for its next participation, before any bound. decisions: how many were made, which
    numbers the stream of the next. previous: train accuracy of its latest counted participation, NaN before the first.
    """

    partitions: tuple[Partition, ...]
    epsilon: float
    ratio: float
    decisions: int
    previous: float

    @classmethod
    def start(cls, parameters: BanditParameters, seed: int, client: int) -> "Bandit":
        """Decision 0: a uniform partition, then a uniform ratio inside it."""
        low, high = parameters.arms
        edges = [low + (high - low) * i / parameters.initial for i in range(parameters.initial + 1)]
        partitions = tuple(Partition(*pair) for pair in pairwise(edges))
        ratio = _draw(partitions, seed, client, decision=0)
        return cls(partitions, epsilon=1.0, ratio=ratio, decisions=1, previous=math.nan)

    def update(
        self,
        parameters: BanditParameters,
        seed: int,
        client: int,
        *,
        ratio: float,
        accuracy: float,
        previous: float,
        cost: float,
        counted: bool = True,
    ) -> "Bandit":
        """The bandit after one participation, with the next decision made.

        ratio: the one trained with, after the bound. accuracy, previous: of this participation and the one before, in
        [0, 1]. cost: relative to the full model on the fastest device, > 0. counted: keep the accuracy as the next
        `previous`; False for a client that diverged. Raises ValueError for a cost or accuracy outside its range.
        """
        if not cost > 0:
            raise ValueError(f"cost: got {cost}, expected > 0")
        for name, value in (("accuracy", accuracy), ("previous", previous)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: got {value}, expected 0 <= {name} <= 1")
        reward = (_utility(accuracy) - _utility(previous)) / cost
        partitions = _record(self.partitions, ratio, reward, eliminate=accuracy - previous < parameters.delta)
        updated = replace(
            self,
            partitions=partitions,
            epsilon=self.epsilon / 2,
            decisions=self.decisions + 1,
            previous=accuracy if counted else self.previous,
        )
        values = updated.values(parameters)
        least = max(values) - TIE
        best = [partition for partition, value in zip(partitions, values, strict=True) if value >= least]
        return replace(updated, ratio=_draw(best, seed, client, decision=self.decisions))

    def values(self, parameters: BanditParameters) -> list[float]:
        """The upper confidence bound of every partition, in order (17)."""
        psi = parameters.xi / len(self.partitions) ** 2
        log = math.log(max(parameters.xi * psi * self.epsilon, 1.0))
        values = []
        for partition in self.partitions:
            pulls = len(partition.rewards)
            mean, variance = _moments(partition.rewards) if pulls else (0.0, 0.0)
            values.append(mean + math.sqrt(parameters.rho * (variance + 2) * log / (4 * (pulls + 1))))
        return values

    def to_arrays(self) -> dict[str, numpy.ndarray]:
        """The state as arrays for the store: I partitions with N rewards in all, flattened in order.

        low, high: float64 [I]. pulls: int64 [I], rewards per partition. rewards: float64 [N]. epsilon, ratio,
        previous: float64 [1]. decisions: int64 [1]. `from_arrays` restores the same state, bit for bit.
        """
        rewards = [reward for partition in self.partitions for reward in partition.rewards]
        return {
            "low": numpy.array([partition.low for partition in self.partitions], numpy.float64),
            "high": numpy.array([partition.high for partition in self.partitions], numpy.float64),
            "pulls": numpy.array([len(partition.rewards) for partition in self.partitions], numpy.int64),
            "rewards": numpy.array(rewards, numpy.float64),
            "epsilon": numpy.array([self.epsilon], numpy.float64),
            "ratio": numpy.array([self.ratio], numpy.float64),
            "previous": numpy.array([self.previous], numpy.float64),
            "decisions": numpy.array([self.decisions], numpy.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, numpy.ndarray]) -> "Bandit":
        """The state that `to_arrays` wrote. Raises ValueError if rewards and pulls do not fit together."""
        pulls, rewards = arrays["pulls"], arrays["rewards"]
        if int(pulls.sum()) != len(rewards):
            raise ValueError(f"rewards: got {len(rewards)}, expected the sum of pulls, {int(pulls.sum())}")
        seen, edges = rewards.tolist(), pairwise([0, *numpy.cumsum(pulls).tolist()])
        columns = zip(arrays["low"].tolist(), arrays["high"].tolist(), edges, strict=True)
        return cls(
            partitions=tuple(Partition(low, high, tuple(seen[slice(*edge)])) for low, high, edge in columns),
            epsilon=float(arrays["epsilon"][0]),
            ratio=float(arrays["ratio"][0]),
            decisions=int(arrays["decisions"][0]),
            previous=float(arrays["previous"][0]),
        )


def _moments(rewards: Sequence[float]) -> tuple[float, float]:
    """Mean and population variance: numpy's own, bit for bit, without what it checks first, which takes ten times as
    long on so few numbers.
    """
    values = numpy.array(rewards)
    mean = values.sum() / len(values)
    deviations = values - mean
    return float(mean), float((deviations * deviations).sum() / len(values))


def _utility(accuracy: float) -> float:
    """The worth of an accuracy in [0, 1] (16)."""
    return 10 - 20 / (1 + math.exp(0.35 * accuracy))


def _record(partitions: tuple[Partition, ...], ratio: float, reward: float, eliminate: bool) -> tuple[Partition, ...]:
    """Give the reward to where the ratio lies: split there, or unsplit to the nearest partition if it lies in none."""
    for position, partition in enumerate(partitions):
        if partition.low <= ratio < partition.high:
            rewards = (*partition.rewards, reward)
            parts = [Partition(ratio, partition.high, rewards)]
            if partition.low < ratio and not eliminate:
                parts.insert(0, Partition(partition.low, ratio, rewards))
            return (*partitions[:position], *parts, *partitions[position + 1 :])
    # min takes the first of equals, which is the lower partition.
    nearest = min(range(len(partitions)), key=lambda position: partitions[position].distance(ratio))
    rewarded = replace(partitions[nearest], rewards=(*partitions[nearest].rewards, reward))
    return (*partitions[:nearest], rewarded, *partitions[nearest + 1 :])


def _draw(candidates: Sequence[Partition], seed: int, client: int, decision: int) -> float:
    """A uniform candidate, then a uniform ratio inside it: the two draws of one decision, in this order."""
    rng = stream(seed, Purpose.RATIO, client, decision)
    chosen = candidates[int(rng.integers(len(candidates)))]
    return chosen.low + (chosen.high - chosen.low) * float(rng.random())
