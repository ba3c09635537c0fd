"""Every instruction set that this machine runs, and fresh memory that is NaN."""

from collections.abc import Callable, Iterator

import pytest
import torch

from fedlps_kernels import native
from tests.kernels.compare import assert_same

ISAS = native.module().available_isas() if native.module() else []


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """torch.empty gives NaN (the largest number for integers): an entry that a kernel forgets shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=ISAS, scope="module")
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once per instruction set."""
    module = native.module()
    before = module.isa()
    module.use_isa(request.param)
    yield request.param
    module.use_isa(before)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"], scope="module")
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def threads() -> Iterator[Callable[..., torch.Tensor]]:
    """threads(op, *arguments): its result, the same bits with 1, 2 and 5 threads."""
    before = torch.get_num_threads()

    def call(op: Callable[..., torch.Tensor], *arguments: object, **named: object) -> torch.Tensor:
        results = []
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            results.append(op(*arguments, **named))
        assert_same("with 2 threads", results[1], results[0])
        assert_same("with 5 threads", results[2], results[0])
        return results[0]

    yield call
    torch.set_num_threads(before)


@pytest.fixture
def every_isa() -> Iterator[Callable[..., None]]:
    """every_isa(result, op, *arguments): every instruction set gives these bits."""
    module = native.module()
    before = module.isa()

    def call(result: torch.Tensor, op: Callable[..., torch.Tensor], *arguments: object, **named: object) -> None:
        for name in ISAS:
            module.use_isa(name)
            assert_same(f"with {name}", op(*arguments, **named), result)

    yield call
    module.use_isa(before)
