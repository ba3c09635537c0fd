#!/usr/bin/env bash
# Builds FedLPS for this machine as anyone would; what pip lacks it takes from wheels/. Fails where no GPU is served then.
set -eu
mkdir -p wheels
"$PYTHON" -m pip install --quiet "setuptools>=77" "pybind11>=2.13" ninja "cmake>=3.24" "pytest>=8" "pytest-benchmark>=4" hypothesis
"$PYTHON" -m pip install --quiet --no-build-isolation -e .
"$PYTHON" -m fedlps doctor || true
"$PYTHON" - <<'PYTHON'
import sys

from fedlps.engine.cuda import presence

print(presence.versions())
sys.exit(presence.why_not() or 0)
PYTHON
