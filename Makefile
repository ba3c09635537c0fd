# make setup | run | test | test-gpu-free | test-all     `run` and `test` set up first when needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml CMakeLists.txt $(shell find csrc -type f)

.PHONY: setup run test test-gpu-free test-all test-rest types
.DELETE_ON_ERROR:

setup: $(VENV)/package.stamp

$(VENV)/requirements.stamp: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -r requirements.lock
	touch $@

$(VENV)/package.stamp: $(VENV)/requirements.stamp $(SOURCES)
	$(BIN)/pip install --no-build-isolation --no-deps -e .
	touch $@

run: setup
	$(BIN)/fedlps run

test: setup
	$(BIN)/python -m pytest -m "not slow"

# Everything of the GPU's kernels that needs none: Triton's interpreter (its flag is read when kernels are decorated, so
# it has a process of its own), what the compilers make of them, and the CUDA sources run by fibers. These use no more
# than a thread of torch, and threads that wait would take time from what runs beside them.
GPU_FREE := tests/interpret tests/compile tests/fibers
test-gpu-free: export OMP_NUM_THREADS = 1
test-gpu-free: setup
	TRITON_INTERPRET=1 $(BIN)/python -m pytest tests/interpret $(PYTEST_OPTIONS)
	$(BIN)/python -m pytest tests/compile tests/fibers --durations=20 $(PYTEST_OPTIONS)

# Two at a time, each command's output whole when it ends.
test-all: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	.ci/without_native $(BIN)
	.ci/cuda_compiles $(BIN)
	$(MAKE) --no-print-directory -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=line) types test-gpu-free test-rest

types: setup
	$(BIN)/mypy

test-rest: setup
	$(BIN)/python -m pytest --durations=20 $(GPU_FREE:%=--ignore=%) $(PYTEST_OPTIONS)
