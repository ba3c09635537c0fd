"""What the tests of the command line share."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = ("clients=4", "fraction=0.5", "epochs=1", "rounds=2")

Refused = Callable[..., str]


def command_line(*arguments: str, cwd: Path) -> "subprocess.Popen[str]":
    """The command line in a process of its own."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-m", "fedlps", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "FORCE_COLOR": "1"},
    )
