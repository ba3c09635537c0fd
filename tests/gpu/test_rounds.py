"""Whole local rounds of FedLPS and of FjORD: against float64, and the same bits however they are run.

On a CPU the same functions run with definitions in the kernels' place.
"""

import pytest
import torch

from fedlps.engine.cuda.launches import Precision
from tests.engine.agreement import bits
from tests.gpu.rounds import (
    PRECISIONS,
    RATIOS,
    Workload,
    call_by_call,
    changes,
    emulated,
    engine,
    errors,
    in_parts,
    only,
    same_selections,
    trained,
    wanted,
)

SMOOTH, NARROW, VGG = Workload("smooth", 4, 8), Workload("narrow", 4, 8), Workload("vgg11", 1, 4)
TAUGHT = Workload("smooth", 4, 8, taught=True)

# Relative RMS errors: of a product by these operands, seen with random numbers of any length, and what a round of some
# layers makes of it. Where nothing is rounded an error of 1e-3 would not show that something else is wrong.
NEAR = {"fp32": (0.0, 2e-6, 3e-5), "tf32": (1e-4, 1e-3, 2e-3), "bf16": (1e-3, 5e-3, 2e-2)}
SAME_OPERANDS = {"fp32": 1e-5, "tf32": 5e-4, "bf16": 5e-3}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_round_is_as_near_to_float64_as_its_operands(device: str, precision: Precision) -> None:
    """Of all layers and clients the median, and the worst."""
    case, want = SMOOTH.case(), wanted(SMOOTH)
    got = trained(engine(case, device, precision), case)
    found, (least, typical, most) = errors(got, want, case), NEAR[precision]
    assert least <= float(found.median()) <= typical
    assert float(found.max()) <= most
    assert changes(want) > 0
    assert same_selections(got, want)
    torch.testing.assert_close(got.redundancy.double(), want.redundancy, rtol=0, atol=1e-6 if least == 0 else 1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_round_of_drawn_widths(device: str, precision: Precision) -> None:
    """Of FjORD: as near to float64, and the same bits call by call."""
    case, want = TAUGHT.case(), wanted(TAUGHT)
    got = trained(engine(case, device, precision), case)
    found, (least, typical, most) = errors(got, want, case), NEAR[precision]
    assert least <= float(found.median()) <= typical
    assert float(found.max()) <= most
    alike = trained(call_by_call(engine(case, device, precision)), case)
    assert_same_bits(alike, range(len(RATIOS)), got, range(len(RATIOS)))


def test_a_round_of_relus_in_fp32(device: str) -> None:
    """No decision of a ReLU or a maximum falls otherwise, at these numbers."""
    case, want = NARROW.case(), wanted(NARROW)
    found = errors(trained(engine(case, device, "fp32"), case), want, case)
    assert float(found.median()) <= 5e-6
    assert float(found.max()) <= 1e-2  # of one unit's few values, one decision


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_round_is_what_its_operands_make(device: str, precision: Precision) -> None:
    """Of ReLUs and maxima rounded operands decide some otherwise than float64, but all alike."""
    assert_made_of_its_operands(NARROW, device, precision)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_step_of_vgg11_is_what_its_operands_make(gpu: str, precision: Precision) -> None:
    """Takes minutes in plain torch alone."""
    assert_made_of_its_operands(VGG, gpu, precision)


def assert_made_of_its_operands(workload: Workload, device: str, precision: Precision) -> None:
    case = workload.case()
    found = errors(trained(engine(case, device, precision), case), emulated(workload, precision), case)
    assert float(found.median()) <= SAME_OPERANDS[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
class TestTheSameBits:
    """Of a client, whatever is trained beside it, before it and at once."""

    def test_again(self, device: str, precision: Precision) -> None:
        case = NARROW.case()
        executor = engine(case, device, precision)
        first = trained(executor, case)
        for other in (executor, engine(case, device, precision)):
            assert_same_bits(trained(other, case), range(len(RATIOS)), first, range(len(RATIOS)))

    def test_in_parts(self, device: str, precision: Precision) -> None:
        case = NARROW.case()
        got, parts = in_parts(case, device, precision)
        assert parts > 1
        assert_same_bits(got, range(len(RATIOS)), trained(engine(case, device, precision), case), range(len(RATIOS)))

    @pytest.mark.parametrize("clients", [(2,), (4, 0, 3), (0, 1, 2, 3, 4) * 2], ids=len)
    def test_in_other_company(self, device: str, precision: Precision, clients: tuple[int, ...]) -> None:
        case = NARROW.case()
        want = trained(engine(case, device, precision), case)
        got = trained(engine(case, device, precision), only(case, *clients))
        assert_same_bits(got, range(len(clients)), want, clients)

    def test_call_by_call(self, device: str, precision: Precision) -> None:
        case = NARROW.case()
        got = trained(call_by_call(engine(case, device, precision)), case)
        assert_same_bits(got, range(len(RATIOS)), trained(engine(case, device, precision), case), range(len(RATIOS)))


def assert_same_bits(got, rows, want, others) -> None:
    for row, other in zip(rows, others, strict=True):
        mine, theirs = bits(got, row), bits(want, other)
        assert [name for name in theirs if mine[name] != theirs[name]] == [], f"job {row}"
