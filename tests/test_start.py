"""What a run does not wait for."""

import subprocess
import sys

SLOW = ("scipy", "sklearn", "sympy", "torch._dynamo")


def test_a_run_imports_nothing_slow_beside_torch(tmp_path):
    """Each takes half a second to two seconds, which is as long as the rounds of `fedlps run`."""
    program = (
        "import sys, fedlps; fedlps.run('digits', out=sys.argv[1], overrides={'rounds': 1}); "
        "print([name for name in sys.argv[2:] if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run"), *SLOW], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
