"""Whole rounds of the CUDA executor with the CUDA sources on fibers, definitions in place of Triton's kernels."""

import numpy
import pytest
import torch

from fedlps.engine.cuda.executor import CudaExecutor
from fedlps.engine.cuda.scattered import ScatteredWeights
from fedlps.engine.plan import Plan
from tests.engine.agreement import agree, agree_on_evaluation
from tests.engine.drawn_jobs import drawn_jobs
from tests.engine.drawn_terms import Setting, normed, plain
from tests.engine.on_cuda import PROBES, TOLERANCE
from tests.engine.test_cuda_passes import taught


@pytest.mark.parametrize("build", [plain, normed])
@pytest.mark.parametrize("seed", range(2))
def test_rounds_agree_with_the_definition(fibers, build, seed: int) -> None:
    """In float64: selections that change, gates, clip, momentum, pulls, several sets of numbers."""
    setting = Setting.of(build)
    engine = CudaExecutor(setting.program, setting.reference.samples, dtype=torch.float64, device="cpu")
    engine.weights = ScatteredWeights(engine.layout, "fp32", engine.buffers)
    jobs = drawn_jobs(setting.program, 3, setting.start, numpy.random.default_rng(seed), learned=seed > 0)
    plan, own = Plan(jobs, PROBES), [numpy.arange(size) for size in (5, 0, 9)]
    want = setting.reference.train(setting.start, plan, setting.cohort)
    agree(engine.train(setting.start, plan, setting.cohort), want, TOLERANCE)
    evaluated = setting.reference.evaluate(want.submodels, own, "test")
    agree_on_evaluation(engine.evaluate(want.submodels, own, "test"), evaluated, TOLERANCE)


@pytest.mark.parametrize("alone", [True, False])
def test_passes_agree_with_the_definition(fibers, alone: bool) -> None:
    """Widths that change at every step, of which one alone leaves entries as they are."""
    setting = Setting.of(normed)
    engine = CudaExecutor(setting.program, setting.reference.samples, dtype=torch.float64, device="cpu")
    engine.weights = ScatteredWeights(engine.layout, "fp32", engine.buffers)
    plan = taught(setting, alone=alone)
    want = setting.reference.train(setting.start, plan, setting.cohort)
    agree(engine.train(setting.start, plan, setting.cohort), want, TOLERANCE)
