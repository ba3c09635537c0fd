"""What must not change a bit of the CPU engine's results in float32, and how far instruction sets may be apart."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch

from fedlps.engine.cpu import PIECE, CpuExecutor
from fedlps.engine.plan import Plan
from fedlps.engine.result import Submodels
from fedlps_kernels import gather_weights, native
from tests.engine.agreement import bits, close
from tests.engine.cases import samples
from tests.engine.drawn_jobs import random_units
from tests.engine.drawn_terms import CLASSES, COUNT, SHAPE, Setting, plain
from tests.engine.engines import each_isa, needs_engine
from tests.engine.one_round import round_plan

pytestmark = [needs_engine, pytest.mark.usefixtures("poisoned_memory")]


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting.of(plain, torch.float32)


def with_threads(setting: Setting, threads: int | None):
    data = samples(SHAPE, CLASSES, COUNT).to(torch.float32)
    return CpuExecutor(setting.program, data, dtype=torch.float32, threads=threads)


@pytest.mark.parametrize("threads", [2, 3, None])
def test_threads_change_no_bit(setting: Setting, threads) -> None:
    plan = round_plan(setting)
    for _ in each_isa():
        one = with_threads(setting, 1).train(setting.start, plan, setting.cohort)
        for _repeat in range(3):
            more = with_threads(setting, threads).train(setting.start, plan, setting.cohort)
            assert [row for row in range(len(plan.jobs)) if bits(more, row) != bits(one, row)] == []


@pytest.mark.parametrize("threads", [1, 2])
def test_neither_grouping_nor_order_of_jobs_changes_a_bit(setting: Setting, threads) -> None:
    engine, plan = with_threads(setting, threads), round_plan(setting)
    together = engine.train(setting.start, plan, setting.cohort)
    places = list(range(len(plan.jobs)))
    drawn = numpy.random.default_rng(0).permutation(places).tolist()
    for order in (places[::-1], drawn, drawn[:5], *([place] for place in places)):
        jobs = tuple(plan.jobs[place] for place in order)
        got = engine.train(setting.start, Plan(jobs, plan.probes), setting.cohort)
        assert [place for row, place in enumerate(order) if bits(got, row) != bits(together, place)] == []


def test_probes_change_no_bit(setting: Setting) -> None:
    engine, plan = with_threads(setting, 2), round_plan(setting)
    told = engine.train(setting.start, plan, setting.cohort)
    untold = engine.train(setting.start, Plan(plan.jobs), setting.cohort)
    told = replace(told, probes={})
    assert [row for row in range(len(plan.jobs)) if bits(told, row) != bits(untold, row)] == []


@pytest.mark.parametrize("threads", [2, 3])
def test_evaluation_has_the_same_bits_for_any_threads_and_grouping(setting: Setting, threads) -> None:
    rng, program = numpy.random.default_rng(1), setting.program
    counts = [program.counts(ratio) for ratio in (1.0, 0.6, 0.3, 0.01) * 2]
    kept = torch.stack([random_units(program, own, rng) for own in counts])
    table, layout = torch.tensor(counts, dtype=torch.int32), program.layout()
    capacity = int(layout.compact_sizes(table).max())
    models = Submodels(kept, table, gather_weights(setting.start[None], kept, table, layout, capacity))
    own = [rng.integers(COUNT, size=size) for size in (1, 33, 2 * PIECE + 3, 17, PIECE, 2, 40, 9)]
    one = with_threads(setting, 1).evaluate(models, own, "test")
    engine = with_threads(setting, threads)
    more = engine.evaluate(models, own, "test")
    assert more.losses.tobytes() == one.losses.tobytes()
    assert [hits.tolist() for hits in more.hits] == [hits.tolist() for hits in one.hits]
    for row in (7, 3, 2, 0):
        alone = engine.evaluate(models[[row]], [own[row]], "test")
        assert alone.losses[0] == one.losses[row]
    parts = numpy.split(own[2], [5, PIECE + 1])
    apart = engine.evaluate(models[[2, 2, 2]], parts, "test")
    assert numpy.concatenate(apart.hits).tolist() == one.hits[2].tolist()
    assert apart.losses.sum() == pytest.approx(one.losses[2], rel=1e-6)


def test_instruction_sets_agree_after_a_round(tmp_path) -> None:
    """Each in a process of its own, forced as a user forces it."""
    stored = {}
    for isa in native.module().available_isas():
        path = tmp_path / f"{isa}.npz"
        command = [sys.executable, "-m", "tests.engine.one_round", str(path)]
        done = subprocess.run(
            command,
            env={**os.environ, "FEDLPS_ISA": isa},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        with numpy.load(path) as arrays:
            stored[isa] = dict(arrays)
    first, *others = stored.values()
    for other in others:
        assert numpy.array_equal(other.pop("kept"), first["kept"])
        for name, values in other.items():
            for row, own in enumerate(values):
                close(f"{name} of job {row}", own, first[name][row], 1e-5)
