"""Small launches for compute-sanitizer, which sees what a test cannot: every kernel, in every precision.

No graph is captured: none can be where every tensor has an allocation of its own (PYTORCH_NO_CUDA_MEMORY_CACHING=1), in
which an overrun shows.
"""

import numpy
import pytest
import torch

from fedlps.engine.cuda.launches import Precision
from tests.fibers.compare import assert_near
from tests.fibers.exercise import everything
from tests.gpu.rounds import PRECISIONS, RATIOS, Workload, call_by_call, engine, trained
from tests.kernels.cases import small_case


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", ["smooth", "narrow"])
def test_a_round_and_an_evaluation(device: str, network: str, precision: Precision) -> None:
    case = Workload(network, 2, 3).case()
    executor = call_by_call(engine(case, device, precision))
    result = trained(executor, case)
    assert not result.diverged.any()
    assert numpy.isfinite(executor.evaluate(result.submodels, [numpy.arange(3)] * len(RATIOS), "test").losses).all()


@pytest.mark.gpu
def test_kernels(gpu: str) -> None:
    for name, got, want in everything(small_case(), torch.float32, gpu):
        assert_near(name, got, want)
