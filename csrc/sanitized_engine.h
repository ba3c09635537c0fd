// The engine's part of csrc/sanitized.cpp.
#pragma once

#include <random>

#include "cpu/kernels.h"

namespace fedlps {

// A drawn chain, jobs with drawn terms on it, and the evaluation of what they trained, with the kernels of one set.
void run_engine(const InstructionSet& set, std::mt19937& generator);

}  // namespace fedlps
