"""Nothing is timed that computes something else."""

import statistics
from collections.abc import Callable, Mapping

import torch

from bench.rounds.case import Case, Trained, differences
from bench.rounds.engine import definition

Train = Callable[[], list[Trained]]


def check(case: Case, alternatives: Mapping[str, Train]) -> None:
    """Each engine and each loop against the definition.

    In float32 a ReLU or a pooling window may decide otherwise where two values nearly agree, which moves a client by up
    to some hundredths (torch's own loops too); of ten clients that happens to few.
    """
    wanted = definition(case).train(case.parameters, case.plan, case.cohort)
    exact = case.parameters.dtype == torch.float64
    for name, train in alternatives.items():
        for what, clients in differences(case, train(), wanted).items():
            apart = f"{name}: {what} of the clients differ by {clients}"
            assert max(clients) <= (1e-10 if exact else 1e-1), apart
            assert statistics.median(clients) <= (1e-10 if exact else 1e-5), apart
