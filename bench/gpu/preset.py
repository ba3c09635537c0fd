"""`python -m bench.gpu.preset NAME [KEY=VALUE...]`: a preset's whole run, in tf32, then bf16 and fp32.

Seconds are those of the process, from its start to the last checkpoint; beside them the metrics of the last round.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PRECISIONS = ("tf32", "bf16", "fp32")


def timed(preset: str, precision: str, overrides: list[str]) -> dict[str, object]:
    """One run. Raises CalledProcessError where it fails; what it says comes before."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        words = [preset, f"precision={precision}", *overrides, "--out", str(run)]
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "fedlps", "run", *words], check=True, stdout=sys.stderr)
        took = time.perf_counter() - began
        header, *_, last = (run / "metrics.csv").read_text().splitlines()
    return {"preset": preset, "precision": precision, "seconds": took, "last round": _row(header, last)}


def _row(header: str, line: str) -> dict[str, str]:
    return dict(zip(header.split(","), line.split(","), strict=True))


def main(preset: str, *overrides: str) -> None:
    """A line per precision, as soon as it is known."""
    for precision in PRECISIONS:
        found = timed(preset, precision, list(overrides))
        print(json.dumps(found), flush=True)
        print(f"{preset} {precision}: {found['seconds']:.1f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
