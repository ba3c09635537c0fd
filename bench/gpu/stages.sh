# shellcheck shell=bash
# What bench/gpu.sh does, in this order: stage NAME KIND SECONDS COMMAND...
# Proofs come before what they let pass; the seconds sum to less than nine minutes.
PYTHON=${PYTHON:-python3}
GOLDEN=${GOLDEN:-tests/golden/data}
export PYTHON
export FEDLPS_CUDA=on FEDLPS_DATA=${FEDLPS_DATA:-$PWD/gpu-data}
export PIP_NO_INDEX=1 PIP_FIND_LINKS=$PWD/wheels PIP_BREAK_SYSTEM_PACKAGES=1 PIP_DISABLE_PIP_VERSION_CHECK=1
export PYTHONUNBUFFERED=1

pytest=("$PYTHON" -m pytest -m gpu -q -p no:cacheprovider)
sanitized=(env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode "${FOUND-99}")
small=("${pytest[@]}" tests/gpu/test_sanitized.py)
# A pack holds just the images of the preset's split, and is read at once.
cifar10=(data.partial=true)
if [ -e "$FEDLPS_DATA/cifar10.pack" ]; then cifar10=("data.root=$FEDLPS_DATA/cifar10.pack"); fi

# Of the benchmarks those that fit the time: the usual mix in TF32, a thousand clients where a must asks for them.
musts="unit_abs_sum or scatter_update or select_units"
chosen="uniform and not fp32 and not bf16 and (not 1000 or $musts)"

stage machine measure 15 "$PYTHON" -m bench.gpu.machine
stage build proof 80 bench/gpu/build.sh
stage compile measure 35 "$PYTHON" -m bench.gpu.compile
stage tests proof 90 "${pytest[@]}" tests/gpu --durations=10
stage golden proof 20 "$PYTHON" -m tests.golden "$GOLDEN" --executor cuda --dtype float32
stage memcheck sanitizer 45 "${sanitized[@]}" --tool memcheck "${small[@]}"
stage racecheck sanitizer 35 "${sanitized[@]}" --tool racecheck "${small[@]}"
stage kernels measure 60 "${pytest[@]}" -s -k "$chosen" bench/kernels --benchmark-json="$OUT/kernels.json"
stage rounds measure 45 "${pytest[@]}" -s bench/rounds --benchmark-json="$OUT/rounds.json"
stage cifar10 measure 20 "$PYTHON" -m bench.gpu.preset cifar10 device=cuda evaluation.every=10 "${cifar10[@]}"
stage mnist measure 12 "$PYTHON" -m bench.gpu.preset mnist device=cuda
stage thousand measure 40 "$PYTHON" -m bench.gpu.thousand
stage ncu measure 25 "$PYTHON" -m bench.gpu.slowest
