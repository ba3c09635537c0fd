"""The GPU's benchmarks on the CPU: tiny cohorts, the engine's definitions; and they notice what is wrong."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from bench import floors
from bench.kernels import device
from bench.kernels.layers import Layer
from bench.kernels.masters import Masters
from bench.kernels.mixes import MIXES, VGG11, cases, of, ratios
from bench.kernels.products import DIRECTIONS, product
from bench.kernels.shapes import chain, vgg11
from bench.kernels.stages import Stages, stage
from bench.rounds import gpu, stacked
from bench.rounds.case import Case, fedlps_case, vgg_network
from bench.rounds.engine import torch_threads
from bench.rounds.steps import step
from fedlps.engine.cuda.launches import Precision
from fedlps.trace import derive
from tests.bench.test_baselines import network, normed

PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
OPS = {  # and their alternatives, ours twice among them
    "unit_abs_sum": 5,
    "select_units": 5,
    "importance_step": 4,
    "gather_weights": 5,
    "scatter_update": 5,
    "scatter_aggregate": 4,
}
LAYERS = {
    "conv": Layer(6, 8, size=4, kernel=3, padding=1, ratios=ratios("uniform", 4), batch=3),
    "first conv": Layer(3, 8, size=5, kernel=3, padding=1, all_columns=True, ratios=ratios("one large", 3), batch=2),
    "linear": Layer(12, 7, ratios=ratios("uniform", 4), batch=3),
}
STEP: dict[Precision, float] = {"fp32": 1e-4, "tf32": 5e-2, "bf16": 0.3}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two samples of each alternative, and ceilings that are not measured."""
    monkeypatch.setattr(device, "LONG", 2)
    monkeypatch.setattr(device, "SHORT", 2)
    monkeypatch.setattr(device, "_CEILINGS", {("cpu", one): device.Ceilings(1e10, 1e11) for one in PRECISIONS})
    with torch_threads(1):
        yield


class Recorded:
    """In the place of pytest-benchmark's fixture."""

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}

    def pedantic(self, call: Callable[[], object]) -> None:
        call()


def complete(found: device.Comparison, alternatives: int) -> None:
    assert len(found.rows) == alternatives
    assert all(row.median > 0 and row.low <= row.median <= row.high and not row.why for row in found.rows.values())
    assert list(found.rows)[-1] == "ours, again"
    assert "of the ceiling" in found.line()


def small_step() -> Case:
    return fedlps_case(ratios("uniform", 4), normed(), samples=5, epochs=1, batch=5)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", LAYERS)
def test_products(name: str, direction: str, precision: Precision) -> None:
    complete(product(name, LAYERS[name], direction, "cpu", precision), 6 if name == "linear" else 8)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("backward", [True, False])
def test_stages(backward: bool, pooled: bool, precision: Precision) -> None:
    complete(stage("stage", Stages([8, 8, 4, 1], 8, 4, 3, pooled, "cpu", precision), backward=backward), 6)


@pytest.mark.parametrize(("op", "precision"), [*((op, "tf32") for op in OPS), ("gather_weights", "bf16")])
def test_ops_over_weights(op: str, precision: Precision) -> None:
    cohort = Masters(chain([(8, 3, 9), (6, 8, 4), (5, 6, 1)]), ratios("uniform", 5), "cpu", precision)
    complete(importlib.import_module(f"bench.kernels.{op}").on_device(cohort), OPS[op])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", [network, normed])
def test_steps(model: Callable[[], Any], precision: Precision) -> None:
    case = fedlps_case(ratios("uniform", 4), model(), samples=5, epochs=1, batch=5)
    complete(step("step", case, "cpu", precision, tolerance=STEP[precision]), 8)


def test_what_the_round_benchmarks_record(capsys: pytest.CaptureFixture[str]) -> None:
    compared, rounds = Recorded(), Recorded()
    gpu.compare_step(compared, small_step(), "uniform", "cpu", "fp32", tolerance=1e-4)
    assert compared.extra_info["gain"] > 0
    assert compared.extra_info["times_the_floor"] > 1
    (comparison,) = compared.extra_info["comparisons"]
    assert set(comparison) >= {"operations", "moved_bytes", "ceilings", "rows", "precision", "floor"}
    case = fedlps_case(ratios("uniform", 4), normed(), samples=10, epochs=2, batch=5, images=20)
    gpu.time_rounds(rounds, case, "tiny", "cpu", "fp32", 1)
    assert rounds.extra_info["steps"] == 4
    assert rounds.extra_info["median_s"] > 0
    assert "times the floor" in capsys.readouterr().out


def test_a_wrong_product_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.kernels import libraries

    def without_padding(given: torch.Tensor, weights: torch.Tensor, *, padding: int, groups: int) -> torch.Tensor:
        return torch.nn.functional.conv2d(given, weights.flip(3), padding=padding, groups=groups)

    monkeypatch.setattr(libraries, "conv2d", without_padding)
    with pytest.raises(AssertionError, match="conv: client by client: client 0 differs by"):
        product("conv", LAYERS["conv"], "forward", "cpu", "bf16")


def test_a_wrong_step_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The masked step without its masks updates what it must not; twice the learning rate goes twice as far."""
    for wrong in ("masks", "lr"):
        with monkeypatch.context() as patched:
            made = stacked.Stacked.__init__

            def spoiled(self: Any, *given: Any, made: Any = made, wrong: str = wrong, **told: Any) -> None:
                made(self, *given, **told)
                if wrong == "lr":
                    self.segment = replace(self.segment, lr=2 * self.segment.lr)
                else:
                    self.masks = [torch.zeros_like(mask) for mask in self.masks]

            patched.setattr(stacked.Stacked, "__init__", spoiled)
            with pytest.raises(AssertionError, match=r"step: .*: client . differs by"):
                step("step", small_step(), "cpu", "bf16")


def test_what_does_not_fit_is_said() -> None:
    def full() -> Any:
        raise torch.cuda.OutOfMemoryError

    right = [torch.ones(3)]
    ours = device.Alternative("ours", lambda: ([lambda: None], lambda: right))
    other = device.Alternative("large", full)
    found = device.compare("x", [ours, other], "cpu", "fp32", moved_bytes=1)
    assert found.rows["large"].why == "no room"
    with pytest.raises(AssertionError, match="no room for ours"):
        device.compare("x", [replace(ours, make=full)], "cpu", "fp32")


def test_floors_of_the_paper() -> None:
    """One H200: what was computed by hand for separate launches, and with the best fusions."""
    program = derive(vgg_network().module, (3, 32, 32))
    counts = torch.tensor([program.counts(ratio) for ratio in ratios("uniform", 100)])
    works = floors.step(program, counts, 20, "bf16")
    assert sum(work.flops for work in works) == pytest.approx(0.488e12, rel=0.02)
    assert 1.8e-3 < floors.seconds(works, floors.ASSUMED["bf16"]) < 3.3e-3


def test_cohorts() -> None:
    assert all(len(ratios(mix, 100)) == 100 for mix in MIXES)
    assert sum(ratio == 1 for ratio in ratios("uniform", 100)) == 20
    assert {one[2] for one in cases()} == set(PRECISIONS)
    weights = sum(layer.rows * layer.columns * 9 for layer in VGG11.values())
    assert weights + 512 * 512 * 9 + 5120 + 2752 + 10 == vgg11().parameters
    assert of(VGG11["conv 1, 3 to 64 at 32"], "all whole", 10).operations == 10 * 2 * 20480 * 64 * 27
