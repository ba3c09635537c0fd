"""Where the benchmarks marked `gpu` run."""

import pytest

from fedlps.engine.cuda import presence


@pytest.fixture(scope="session")
def gpu() -> str:
    """Its name for torch; skips where no GPU is that the kernels run on."""
    why = presence.why_not()
    if why:
        pytest.skip(why)
    return "cuda"
