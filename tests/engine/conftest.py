"""Fresh memory that is NaN, for the tests that ask for it."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module")
def poisoned_memory() -> Iterator[None]:
    """torch.empty gives NaN (the largest number for integers): an entry that an engine forgets shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
