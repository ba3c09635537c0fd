// This instruction set's kernels, gathered for csrc/cpu/isa.cpp.
#include "cpu/declarations.h"

namespace fedlps::FEDLPS_ISA {
namespace {

template <class T>
constexpr Kernels<T> table{unit_abs_sum<T>,    select_units<T>,   importance_step<T>, gather_weights<T>,
                           scatter_weights<T>, scatter_update<T>, aggregate_row<T>,
                           conv_forward<T>,    conv_expand<T>,    conv_input_gradient<T>,
                           conv_weight_gradient<T>, linear_weight_gradient<T>, winograd_forward<T>, winograd_gradients<T>,
                           pool_forward<T>, pool_backward<T>,
                           norm_statistics<T>, norm_forward<T>, norm_backward<T>, loss<T>, softmax<T>, add<T>, pull<T>,
                           keep<T>, squares<T>, sgd<T>, plain_step<T>, finite<T>, row_sums<T>, normalize<T>, load_samples<T>};

// The name of the namespace, as text.
#define FEDLPS_TEXT(name) #name
#define FEDLPS_NAME(name) FEDLPS_TEXT(name)

}  // namespace

extern const InstructionSet instruction_set;
const InstructionSet instruction_set{FEDLPS_NAME(FEDLPS_ISA), table<float>, table<double>};

}  // namespace fedlps::FEDLPS_ISA
