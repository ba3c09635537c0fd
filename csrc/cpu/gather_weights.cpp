#include "cpu/declarations.h"
#include "cpu/submodel.h"

namespace fedlps::FEDLPS_ISA {

template <class T>
void gather_weights(const Layout& layout, const Submodel& submodel, std::span<const T> parameters,
                    std::span<T> compact) {
    for_each_run(layout, submodel, [&](std::int64_t to, std::int64_t from, std::int64_t length) {
        for (std::int64_t entry = 0; entry < length; ++entry) compact[to + entry] = parameters[from + entry];
    });
}

template <class T>
void scatter_weights(const Layout& layout, const Submodel& submodel, std::span<const T> compact,
                     std::span<T> parameters) {
    for (T& entry : parameters) entry = 0;
    for_each_run(layout, submodel, [&](std::int64_t from, std::int64_t to, std::int64_t length) {
        for (std::int64_t entry = 0; entry < length; ++entry) parameters[to + entry] = compact[from + entry];
    });
}

template void gather_weights(const Layout&, const Submodel&, std::span<const float>, std::span<float>);
template void gather_weights(const Layout&, const Submodel&, std::span<const double>, std::span<double>);
template void scatter_weights(const Layout&, const Submodel&, std::span<const float>, std::span<float>);
template void scatter_weights(const Layout&, const Submodel&, std::span<const double>, std::span<double>);

}  // namespace fedlps::FEDLPS_ISA
