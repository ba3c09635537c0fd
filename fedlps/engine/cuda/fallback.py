"""The CUDA executor, and another for the plans that it does not carry."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fedlps.engine.cohort import Cohort, Indices
from fedlps.engine.cuda.executor import CudaExecutor
from fedlps.engine.cuda.terms import why_not
from fedlps.engine.plan import Plan
from fedlps.engine.result import Evaluation, Executor, LocalResult, Part, Submodels


class WithFallback:
    """Trains with `other` what has terms that the CUDA executor does not carry, and says so the first time.

    other: makes that executor, when it is first needed. say: told one line.
    """

    name = "cuda"

    def __init__(self, cuda: CudaExecutor, other: Callable[[], Executor], say: Callable[[str], None]) -> None:
        self.cuda = cuda
        self._make, self._say = other, say
        self._other: Executor | None = None

    def train(self, global_parameters: torch.Tensor, plan: Plan, cohort: Cohort) -> LocalResult:
        """As every executor."""
        reason = why_not(plan)
        if not reason:
            return self.cuda.train(global_parameters, plan, cohort)
        if self._other is None:
            self._other = self._make()
            self._say(f"trained by the {self._other.name} executor in fp32: cuda does not carry {reason}")
        return self._other.train(global_parameters, plan, cohort)

    def evaluate(self, models: Submodels, samples: list[Indices], part: Part) -> Evaluation:
        """As every executor."""
        return self.cuda.evaluate(models, samples, part)
