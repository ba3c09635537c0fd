"""The parts of bench/gpu.sh that are no tests and no benchmarks of their own."""
