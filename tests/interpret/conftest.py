"""These tests run Triton's kernels in its interpreter, which a process has for all kernels or for none."""

import pytest

from fedlps_kernels import launching

WHY = "TRITON_INTERPRET=1 is not set: make test-gpu-free runs these"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/interpret" in item.path.as_posix() and not launching.interpreted():
            item.add_marker(pytest.mark.skip(reason=WHY))
