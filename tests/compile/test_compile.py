"""Every shipped Triton kernel compiles for sm_80 and sm_90 as the table says: a layout slip shows as a difference.

A change that is meant to change the machine code rewrites the table: python -m tests.compile
"""

import multiprocessing
import re
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("triton")

import triton

from fedlps.engine.executors import cores
from fedlps_kernels import launching
from fedlps_kernels.tuning import ARCHITECTURES
from tests.compile import table
from tests.compile.cubins import SHARED_LIMIT, compiled_by_keys
from tests.compile.shipped import Shipped, shipped

SHIPPED = list(shipped())
Builds = dict[table.Key, Future[table.Table]]
BATCH = 8  # kernels that a process compiles at a time
QUICK = ("forward wide conv", "input_gradient wide conv", "weight_gradient wide conv")

pytestmark = [
    pytest.mark.skipif(launching.interpreted(), reason="TRITON_INTERPRET=1 is set: nothing can be compiled"),
    pytest.mark.skipif(
        not table.PATH.exists(), reason=f"triton {triton.__version__}: the table is of {', '.join(table.RECORDED)}"
    ),
]


def marked(each: Shipped):
    """Those that most of the time goes into, always; the others in `make test-all`."""
    quick = each.name in QUICK and each.key[1:] in (("sm_90", "bf16"), ("sm_90", "tf32"))
    return pytest.param(each, marks=[] if quick else [pytest.mark.slow], id=" ".join(each.key))


def test_table_is_of_what_is_shipped() -> None:
    assert list(table.read()) == [each.key for each in SHIPPED]


def test_every_kernel_is_shipped() -> None:
    folder = Path(launching.__file__).parent
    sources = [path.read_text() for path in folder.rglob("*.py")]
    named = {name for source in sources for name in re.findall(r"^@kernel\ndef (\w+)\(", source, flags=re.MULTILINE)}
    assert named == {each.kernel.__name__ for each in SHIPPED}


@pytest.fixture(scope="module")
def builds(request: pytest.FixtureRequest) -> Iterator[Builds]:
    """What is asked for, compiled by as many processes as there are cores."""
    own = [
        item for item in request.session.items if isinstance(item, pytest.Function) and "builds" in item.fixturenames
    ]
    wanted = [item.callspec.params["each"] for item in own]
    made: Builds = {}
    with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool:
        for architecture in ARCHITECTURES:
            keys = [each.key for each in wanted if each.architecture == architecture]
            for first in range(0, len(keys), BATCH):
                batch = keys[first : first + BATCH]
                made |= dict.fromkeys(batch, pool.submit(compiled_by_keys, batch))
        yield made


@pytest.mark.parametrize("each", [marked(each) for each in SHIPPED])
def test_compiles_as_recorded(each: Shipped, builds: Builds) -> None:
    found = builds[each.key].result()[each.key]
    assert found["stack"] == 0, "registers are spilled"
    assert found["shared"] <= SHARED_LIMIT[each.architecture]
    assert found == table.read()[each.key]


def test_products_use_matrix_instructions_and_wide_copies() -> None:
    """What the layout is for; the exact products have no matrix instructions."""
    for (name, architecture, precision), found in table.read().items():
        product = name.split()[0] in ("forward", "input_gradient", "weight_gradient")
        if product:
            assert found["LDGSTS"] == found["LDGSTS128"] > 0, name
            assert (found["HGMMA"] + found["HMMA"] > 0) == (precision != "fp32"), name
        if product and precision == "bf16" and architecture == "sm_90" and "weight_gradient few_rows" not in name:
            assert found["HGMMA"] > 0, f"{name}: mma.sync where wgmma would do"
