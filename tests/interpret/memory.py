"""Tensors between words that nobody may touch: the interpreter does not check bounds."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

EDGE = 1024  # bytes before and behind each tensor


class Memory:
    """Where a test's tensors lie. Each tensor starts at a multiple of 16 bytes, as torch allocates."""

    def __init__(self) -> None:
        self.held: list[tuple[torch.Tensor, torch.Tensor]] = []

    def place(self, values: torch.Tensor) -> torch.Tensor:
        """A copy of the values, between words that are finite in every dtype and differ from their neighbours."""
        size = values.numel() * values.element_size()
        room = EDGE + -(-size // 16) * 16 + EDGE
        words = ((torch.arange(room // 2) * 7 + 12345) & 0x3FFF).to(torch.int16)
        inner = words.view(torch.uint8)[EDGE : EDGE + size].view(values.dtype).view(values.shape)
        inner.copy_(values)
        self.held.append((words, torch.tensor(size)))
        return inner

    def nans(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A result's place: what a kernel forgets to write shows."""
        return self.place(torch.full(shape, torch.nan, dtype=dtype))

    def check(self) -> None:
        """Nothing was written beside any of the tensors."""
        for words, size in self.held:
            intact = ((torch.arange(len(words)) * 7 + 12345) & 0x3FFF).to(torch.int16)
            intact, found = intact.view(torch.uint8), words.view(torch.uint8)
            for part in (slice(0, EDGE), slice(EDGE + int(size), None)):
                assert torch.equal(found[part], intact[part]), "written outside of a tensor"


@contextmanager
def guarded() -> Iterator[Memory]:
    """Memory that is checked at the end."""
    memory = Memory()
    yield memory
    memory.check()
