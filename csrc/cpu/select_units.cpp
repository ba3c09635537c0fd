#include <algorithm>
#include <numeric>

#include "cpu/declarations.h"

namespace fedlps::FEDLPS_ISA {

template <class T>
void select_units(const Layout& layout, std::span<const T> scores, std::span<const std::int32_t> counts,
                  std::span<std::int32_t> kept) {
    for (std::size_t group = 0; group + 1 < layout.groups.size(); ++group) {
        const T* score = scores.data() + layout.groups[group];
        std::int32_t* first = kept.data() + layout.groups[group];
        std::int32_t* last = kept.data() + layout.groups[group + 1];
        std::int32_t* end = first + counts[group];
        // A strict order of all indices: ties go to the lower one. -0.0 == 0.0 ties as well.
        const auto before = [score](std::int32_t left, std::int32_t right) {
            return score[left] > score[right] || (score[left] == score[right] && left < right);
        };
        std::iota(first, last, 0);
        if (end != first && end != last) std::nth_element(first, end - 1, last, before);
        std::sort(first, end, [](std::int32_t left, std::int32_t right) { return left < right; });
        std::fill(end, last, -1);
    }
}

template void select_units(const Layout&, std::span<const float>, std::span<const std::int32_t>,
                           std::span<std::int32_t>);
template void select_units(const Layout&, std::span<const double>, std::span<const std::int32_t>,
                           std::span<std::int32_t>);

}  // namespace fedlps::FEDLPS_ISA
