// Which instruction set's kernels run.
#pragma once

#include <span>
#include <stdexcept>
#include <string>

#include "cpu/kernels.h"

namespace fedlps {

// Those built into this module that this machine can run, fastest last.
std::span<const InstructionSet* const> available_isas();

// The one in use: the fastest available, until use_isa names another.
const InstructionSet& isa();

// False if there is none of that name here.
bool use_isa(const std::string& name);

// Calls work(kernels) with the kernels in use for the dtype of that name.
template <class Work>
void with_dtype(const std::string& dtype, const Work& work) {
    if (dtype == "float32") return work(isa().single);
    if (dtype == "float64") return work(isa().wide);
    throw std::invalid_argument("dtype: got " + dtype + ", expected float32 or float64");
}

}  // namespace fedlps
