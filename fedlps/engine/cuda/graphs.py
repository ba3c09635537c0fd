"""A step repeated: on a GPU as a captured graph, which one replay launches as a whole; elsewhere call by call."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch

from fedlps.engine.cuda.buffers import Buffers

MOST = 16  # graphs at once; plans of one run have few shapes


class Graphs:
    """Captured steps by their shapes. Addresses they hold for good; everything else they read from memory."""

    def __init__(self, buffers: Buffers) -> None:
        self.buffers = buffers
        self._captured: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._generation = 0

    def run(self, step: Callable[[], None], steps: int, key: Hashable) -> None:
        """The step so many times. key: of its shapes."""
        if self.buffers.device.type != "cuda":
            for _ in range(steps):
                step()
            return
        if self._generation != self.buffers.generation or (len(self._captured) == MOST and key not in self._captured):
            self.forget()
        if key not in self._captured and steps > 0:
            self._captured[key] = self._capture(step)
            self._generation = self.buffers.generation  # the first step may have asked for memory
            steps -= 1
        for _ in range(steps):
            self._captured[key].replay()

    def forget(self) -> None:
        """Give the graphs and their memory back."""
        self._captured.clear()

    def _capture(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """One real step, which compiles and loads whatever a capture cannot; then the step, captured but not run."""
        step()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph
