// Which instruction set's kernels run.
#pragma once

#include <span>
#include <string>

#include "cpu/kernels.h"

namespace fedlps {

// Those built into this module that this machine can run, fastest last.
std::span<const InstructionSet* const> available_isas();

// The one in use: the fastest available, until use_isa names another.
const InstructionSet& isa();

// False if there is none of that name here.
bool use_isa(const std::string& name);

}  // namespace fedlps
