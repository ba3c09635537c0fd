#include "cpu/isa.h"

#include <algorithm>
#include <atomic>
#include <vector>

namespace fedlps {

namespace baseline {
extern const InstructionSet instruction_set;
}
#ifdef FEDLPS_HAS_avx2
namespace avx2 {
extern const InstructionSet instruction_set;
}
namespace avx512 {
extern const InstructionSet instruction_set;
}
#endif

namespace {

std::vector<const InstructionSet*> find_available() {
    std::vector<const InstructionSet*> found{&baseline::instruction_set};
#ifdef FEDLPS_HAS_avx2
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        found.push_back(&avx2::instruction_set);
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
            found.push_back(&avx512::instruction_set);
    }
#endif
    return found;
}

std::atomic<const InstructionSet*>& chosen() {
    static std::atomic<const InstructionSet*> set{available_isas().back()};
    return set;
}

}  // namespace

std::span<const InstructionSet* const> available_isas() {
    static const std::vector<const InstructionSet*> sets = find_available();
    return sets;
}

const InstructionSet& isa() { return *chosen(); }

bool use_isa(const std::string& name) {
    const auto sets = available_isas();
    const auto found = std::find_if(sets.begin(), sets.end(), [&](const auto* set) { return set->name == name; });
    if (found == sets.end()) return false;
    chosen() = *found;
    return true;
}

}  // namespace fedlps
