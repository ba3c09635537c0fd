from pathlib import Path

import pytest

from fedlps.run.record import to_yaml
from tests.run.configured import configured


@pytest.fixture(scope="session")
def config_yaml() -> str:
    return to_yaml(configured(), {"fedlps": "0.1.0", "numpy": "2.0"}, "fedlps run digits")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "a run? #1"  # characters that mean something in the address SQLite is given
