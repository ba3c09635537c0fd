"""Whole rounds and evaluations of the CUDA executor with Triton's kernels under the interpreter."""

from dataclasses import replace

import numpy
import pytest
import torch

from fedlps.engine.cuda.executor import CudaExecutor
from fedlps.engine.plan import Hold, Job, Learned, Pass, Plan, Pull, Segment
from fedlps.engine.reference import ReferenceExecutor
from fedlps.models import chain
from fedlps.trace import derive
from tests.engine.agreement import agree, agree_on_evaluation
from tests.engine.cases import cohort_of, first_units, samples
from tests.engine.drawn_jobs import random_units, start_of
from tests.engine.on_cuda import PROBES

SHAPE = (2, 5, 4)
HEAD = [["flatten"], ["linear", 3]]
CHAINS = {
    "norm": [["conv", 5, 3, 1, 1], ["norm"], ["relu"], ["maxpool", 2], *HEAD],
    "stride": [["relu"], ["conv", 4, 2, 2, 1], ["conv", 3, 1, 1, 0], ["avgpool", 2], ["relu"], *HEAD],
    "linear": [["flatten"], ["linear", 6], ["relu"], ["linear", 3]],
}


@pytest.mark.parametrize("name", CHAINS)
def test_rounds_agree_with_the_definition(name: str) -> None:
    """Unequal clients, numbers of steps and batches; one learns its units and is pulled, one is scaled."""
    module, data = chain(SHAPE, CHAINS[name]), samples(SHAPE, 3, 20).to(torch.float32)
    program = derive(module, SHAPE)
    engine = CudaExecutor(program, data, device="cpu")
    reference = ReferenceExecutor(program, module, data)
    start, rng = start_of(program, 3, torch.float32), numpy.random.default_rng(1)
    learned = Learned(torch.rand(program.units, generator=torch.manual_seed(2)), 0.5, 0.0, "mean")
    whole, half = program.counts(1), program.counts(0.5)
    plain = Segment(0.1, 0.5)
    jobs = (
        Job(0, Hold(whole, random_units(program, whole, rng)), (plain,), scale=(0.7,) * len(whole)),
        Job(1, Hold(half, random_units(program, half, rng)), (plain,)),
        Job(1, Hold(half, learned), (plain,), pulls=(Pull(0.1, start),)),
    )
    plan, cohort = Plan(jobs, PROBES), cohort_of([[0, 1, 2], [4]], [[5, 6]])
    want = reference.train(start, plan, cohort)
    agree(engine.train(start, plan, cohort), want, 1e-5)
    own = [numpy.arange(size) for size in (3, 0, 1)]  # of models
    got = engine.evaluate(want.submodels, own, "test")
    agree_on_evaluation(got, reference.evaluate(want.submodels, own, "test"), 1e-5)


@pytest.mark.parametrize("name", CHAINS)
def test_passes_agree_with_the_definition(name: str) -> None:
    """One client's widths are drawn and it teaches itself, at one step it does not; another runs narrow alone."""
    module, data = chain(SHAPE, CHAINS[name]), samples(SHAPE, 3, 20).to(torch.float32)
    program = derive(module, SHAPE)
    start, whole = start_of(program, 3, torch.float32), program.counts(1)
    hold, half, thin = Hold(whole, first_units(program, whole)), program.counts(0.5), program.counts(0.01)
    taught, alone = Pass(widths=(half, None, thin), weight=0.5, teacher=0), Pass(widths=(thin, half, half))
    segment = Segment(0.1, 0.5, 0.01)
    jobs = [Job(0, hold, (replace(segment, passes=passes),)) for passes in ((Pass(), taught), (alone,))]
    plan, cohort = Plan(tuple(jobs), PROBES), cohort_of([[0, 1, 2], [4], [5, 6]])
    want = ReferenceExecutor(program, module, data).train(start, plan, cohort)
    agree(CudaExecutor(program, data, device="cpu").train(start, plan, cohort), want, 1e-5)
