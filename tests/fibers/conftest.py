"""The CUDA part's stand-in for the CPU, compiled as far as a test needs it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fedlps_kernels import native
from tests.fibers import build

ORDERS = ("forward", "reverse", "random", "greedy")


@pytest.fixture(scope="session")
def built() -> Callable[..., dict[str, Path]]:
    """built(*sanitizers): the stand-in under each of them; "" for none."""
    if build.COMPILER is None:
        pytest.skip("no g++ here, which compiles the CUDA sources for the CPU")
    return build.build


@pytest.fixture(scope="session")
def loaded(built: Callable[..., dict[str, Path]]) -> ModuleType:
    return build.load(built("")[""])


@pytest.fixture(scope="module")
def fibers(loaded: ModuleType) -> Iterator[ModuleType]:
    """The stand-in, serving what Python calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "gpu", lambda: loaded)
        loaded.set_order("forward", False, 0)
        yield loaded


@pytest.fixture
def as_gpu(fibers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The public ops take the CPU's tensors for a GPU's."""
    monkeypatch.setattr(native, "serves_gpu", lambda _: True)
    return fibers


@pytest.fixture
def in_every_order(fibers: ModuleType) -> Callable[..., Iterator[str]]:
    """Goes through the orders of threads, the blocks of every other one backwards."""

    def orders() -> Iterator[str]:
        for number, name in enumerate(ORDERS):
            fibers.set_order(name, number % 2 == 1, number)
            yield name

    return orders
