#include <cmath>

#include "cpu/declarations.h"

namespace fedlps::FEDLPS_ISA {
namespace {

// Sixteen sums side by side, added up in a fixed tree: the order depends on the length alone, not on vector width.
constexpr int LANES = 16;

template <class T>
double absolute_sum(const T* entries, std::int64_t length) {
    double lanes[LANES] = {};
    std::int64_t entry = 0;
    for (; entry + LANES <= length; entry += LANES)
        for (int lane = 0; lane < LANES; ++lane) lanes[lane] += std::abs(static_cast<double>(entries[entry + lane]));
    for (int lane = 0; entry < length; ++entry, ++lane) lanes[lane] += std::abs(static_cast<double>(entries[entry]));
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

}  // namespace

template <class T>
void unit_abs_sum(const Layout& layout, std::span<const T> parameters, std::span<T> sums) {
    for (T& sum : sums) sum = 0;
    for (const Layer& layer : layout.layers) {
        if (layer.row_group < 0) continue;
        const std::int64_t width = layer.columns * layer.inner;
        T* group = sums.data() + layout.groups[layer.row_group];
        for (std::int64_t row = 0; row < layer.rows; ++row)
            group[row] += static_cast<T>(absolute_sum(parameters.data() + layer.weight + row * width, width));
    }
}

template void unit_abs_sum(const Layout&, std::span<const float>, std::span<float>);
template void unit_abs_sum(const Layout&, std::span<const double>, std::span<double>);

}  // namespace fedlps::FEDLPS_ISA
