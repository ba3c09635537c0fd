// This instruction set's kernels, gathered for csrc/cpu/isa.cpp.
#include "cpu/declarations.h"

namespace fedlps::FEDLPS_ISA {
namespace {

template <class T>
constexpr Kernels<T> table{unit_abs_sum<T>,    select_units<T>,   importance_step<T>, gather_weights<T>,
                           scatter_weights<T>, scatter_update<T>, aggregate_row<T>};

// The name of the namespace, as text.
#define FEDLPS_TEXT(name) #name
#define FEDLPS_NAME(name) FEDLPS_TEXT(name)

}  // namespace

extern const InstructionSet instruction_set;
const InstructionSet instruction_set{FEDLPS_NAME(FEDLPS_ISA), table<float>, table<double>};

}  // namespace fedlps::FEDLPS_ISA
