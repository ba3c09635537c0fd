"""What the CPU engine refuses, in one line."""

from dataclasses import dataclass, replace

import numpy
import pytest
import torch
from torch import nn

import fedlps
from fedlps.engine import executors
from fedlps.engine.cohort import from_batches
from fedlps.engine.cpu import CpuExecutor
from fedlps.engine.plan import Hold, Job, Pass, Plan, Segment
from fedlps.errors import InputError
from fedlps.models import chain
from fedlps.trace import derive
from fedlps_kernels import native
from tests.running import TINY

pytestmark = pytest.mark.skipif(native.module() is None, reason="no native module here")
SHAPE = (1, 6, 6)
MODEL = chain(SHAPE, [["conv", 3, 3, 1, 0], ["relu"], ["flatten"], ["linear", 4]])
PROGRAM = derive(MODEL, SHAPE)
UNITS = torch.arange(3, dtype=torch.int32)
JOB = Job(0, Hold((3,), UNITS), (Segment(0.1),))


class Images:
    """Two images."""

    def batch(self, indices, part="train"):
        return numpy.ones((len(indices), *SHAPE), dtype=numpy.float32), numpy.zeros(len(indices), dtype=numpy.int64)


@dataclass(frozen=True)
class Twisted(Segment):
    """A term of nobody's plan."""

    twist: float = 1.0


def refused(plan: Plan) -> str:
    cohort = from_batches(numpy.array([0]), [[numpy.arange(2)]], numpy.array([2]))
    with pytest.raises(ValueError, match=r"^(plan|pass)") as error:
        CpuExecutor(PROGRAM, Images()).train(torch.zeros(PROGRAM.size), plan, cohort)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_term_that_no_engine_carries_is_named():
    assert refused(Plan((replace(JOB, segments=(Twisted(0.1),)),))).endswith("the term Twisted")
    assert refused(Plan((JOB,), frozenset({"curvature"}))).endswith("the probe 'curvature'")
    assert refused(Plan((replace(JOB, hold=Hold((3,), "all")),))).endswith("the units str")


def test_a_teacher_sees_the_same_batch():
    passes = (Pass(), Pass(batch=1, teacher=0))
    plan = Plan((replace(JOB, segments=(Segment(0.1, passes=passes),)),))
    assert refused(plan) == "pass 1: its teacher, pass 0, is of another batch"


def test_what_it_cannot_run_is_said():
    smooth = nn.Sequential(nn.Conv2d(1, 3, 3), nn.GELU(), nn.Flatten(), nn.Linear(48, 4))
    program = derive(smooth, SHAPE)
    with pytest.raises(ValueError, match="the model is no chain"):
        CpuExecutor(program, Images())
    with pytest.raises(InputError, match=r"^executor: got cpu, but the model is no chain.*allowed here: auto, ref"):
        executors.choose(executors.Request(executor="cpu"), program, smooth, Images())
    chosen, why = executors.choose(executors.Request(), program, smooth, Images())
    assert chosen.name == "reference"
    assert "no chain" in why


def test_the_batch_of_evaluation_reaches_it():
    chosen, _ = executors.choose(executors.Request(evaluation_batch=7), PROGRAM, MODEL, Images())
    assert isinstance(chosen, CpuExecutor)
    assert chosen.evaluation_batch == 7


def test_threads_above_the_cores_are_said(tmp_path):
    many = executors.cores() + 1
    run = fedlps.run("digits", out=tmp_path / "run", overrides={**TINY, "threads": many})
    assert run.notes[0].endswith(f"this process may use {executors.cores()} cores only)")
    with pytest.raises(InputError, match=r"^threads: got 0"):
        fedlps.run("digits", out=tmp_path / "none", overrides={"threads": 0})


def test_a_wish_for_instructions_that_are_not_there(monkeypatch):
    monkeypatch.setenv("FEDLPS_ISA", "avx1024")
    native.load.cache_clear()
    try:
        with pytest.raises(InputError, match=r"^FEDLPS_ISA: got 'avx1024', expected one of"):
            executors.check(executors.Request())
    finally:
        monkeypatch.undo()
        native.load.cache_clear()
        native.load()
