"""The examples run as they stand."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_own_model(capsys) -> None:
    runpy.run_path(str(EXAMPLES / "own_model.py"))["main"](2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("chain: cpu executor")
    assert "no chain" not in lines[0]
    assert lines[1].startswith("chain: test_last ")
    assert "no chain" in lines[2]
    assert lines[3].startswith("residual: test_last ")
    assert lines[3].endswith(" % after 2 rounds")
