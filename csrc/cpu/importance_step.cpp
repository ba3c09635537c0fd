#include <cmath>

#include "cpu/declarations.h"
#include "cpu/exponential.h"

namespace fedlps::FEDLPS_ISA {
namespace {

// sigmoid(-a); dividing exp(-a) by 1 + exp(-a) keeps its relative precision however large a is.
inline double sigmoid_of_negated(double a) {
    const double power = exp_of_negative(-std::abs(a));
    return (a < 0 ? 1.0 : power) / (1.0 + power);
}

}  // namespace

template <class T>
void importance_step(const Layout& layout, std::span<const T> redundancy, std::span<const T> sums,
                     std::span<const T> unit_gradient, double lr, double lam, double kappa, bool mean,
                     std::span<T> stepped) {
    for (std::size_t group = 0; group + 1 < layout.groups.size(); ++group) {
        const std::int64_t first = layout.groups[group], last = layout.groups[group + 1];
        const double coefficient = mean ? 2.0 * lam / static_cast<double>(last - first) : 2.0 * lam;
        for (std::int64_t unit = first; unit < last; ++unit) {
            // In double for float as well: redundancies near 1e-38 differ by less than float's rounding of the sum.
            const double d = redundancy[unit];
            const double pull = coefficient * (d - sigmoid_of_negated(sums[unit]));
            stepped[unit] = static_cast<T>(d - lr * (pull - kappa * static_cast<double>(unit_gradient[unit])));
        }
    }
}

template void importance_step(const Layout&, std::span<const float>, std::span<const float>, std::span<const float>,
                              double, double, double, bool, std::span<float>);
template void importance_step(const Layout&, std::span<const double>, std::span<const double>, std::span<const double>,
                              double, double, double, bool, std::span<double>);

}  // namespace fedlps::FEDLPS_ISA
