"""Every method trained by the CPU engine, in float64: what the reference computes, over three rounds of the digits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy
import pytest
import torch

import fedlps
from fedlps import launch
from fedlps.data import Dataset, SampleStore
from fedlps.engine import executors
from fedlps.engine.cpu import CpuExecutor
from fedlps.engine.reference import ReferenceExecutor
from fedlps.engine.result import Evaluation, Executor, LocalResult
from fedlps.methods import METHODS
from tests.engine.agreement import agree, agree_on_evaluation, close
from tests.engine.engines import needs_engine
from tests.running import CLOCKS, model_of

pytestmark = needs_engine
SMALL: dict[str, object] = {"clients": 4, "fraction": 0.5, "epochs": 1, "rounds": 3, "split.test_per_class": 10}
TOLERANCE = 1e-9  # of the largest entry: three rounds of some 1e-16 each, and what a round makes of them
Build = Callable[..., Executor]


@dataclass
class Noting:
    """Passes everything on to an executor, and notes what it answers."""

    executor: Executor
    answers: list[LocalResult | Evaluation] = field(default_factory=list)
    name: str = "noting"

    def train(self, *arguments) -> LocalResult:
        result = self.executor.train(*arguments)
        self.answers.append(replace(result, diverged=result.diverged.copy()))  # a run flags more in its own
        return result

    def evaluate(self, *arguments) -> Evaluation:
        self.answers.append(self.executor.evaluate(*arguments))
        return self.answers[-1]


@contextmanager
def in_float64(build: Build, made: list[Noting]) -> Iterator[None]:
    """Runs are started with this executor and compute in float64 throughout."""

    class Doubles(SampleStore):
        def __init__(self, dataset: Dataset) -> None:
            super().__init__(dataset, numpy.float64)

    def choose(request, program, module, samples):
        executor = build(program, module, samples, dtype=torch.float64)
        made.append(Noting(executor))
        return made[-1], "the executor under test"

    def federation(*arguments):
        return fedlps.recipe.federation.Federation(*arguments[:-1], torch.float64)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(executors, "choose", choose)
        patched.setattr(launch.data, "SampleStore", Doubles)
        patched.setattr(launch, "Federation", federation)
        yield


def answers(build: Build, out: Path, method: str) -> tuple[fedlps.Run, list[LocalResult | Evaluation]]:
    """A run of three rounds, and all that its executor answered."""
    made: list[Noting] = []
    with in_float64(build, made):
        run = fedlps.run("digits", method=method, out=out, overrides=SMALL)
    return run, made[0].answers


def cpu_engine(program, module, samples, *, dtype) -> CpuExecutor:
    return CpuExecutor(program, samples, dtype=dtype)


@pytest.mark.parametrize("method", METHODS)
def test_the_engine_equals_the_reference(tmp_path, method) -> None:
    """Every answer of the executor, the server's model, and every metric."""
    got, own = answers(cpu_engine, tmp_path / "cpu", method)
    want, wanted = answers(ReferenceExecutor, tmp_path / "reference", method)
    assert [type(answer) for answer in own] == [type(answer) for answer in wanted]
    for answer, other in zip(own, wanted, strict=True):
        if isinstance(other, LocalResult):
            agree(answer, other, TOLERANCE)
        else:
            agree_on_evaluation(answer, other, TOLERANCE)
    assert {answer.submodels.parameters.dtype for answer in own if isinstance(answer, LocalResult)} == {torch.float64}
    close("global parameters", model_of(got.directory), model_of(want.directory), TOLERANCE)
    assert got.metrics.keys() == want.metrics.keys()
    for name in got.metrics.keys() - set(CLOCKS):
        close(name, got.metrics[name], want.metrics[name], TOLERANCE)
