#include <cmath>

#include "cpu/declarations.h"
#include "cpu/submodel.h"

namespace fedlps::FEDLPS_ISA {

template <class T>
void scatter_update(const Layout& layout, const Submodel& submodel, const Step& step, std::span<const T> gradient,
                    std::span<const T> anchor, std::span<T> parameters, std::span<T> velocity) {
    const T lr = static_cast<T>(step.lr), pull = static_cast<T>(step.pull);
    const T weight_decay = static_cast<T>(step.weight_decay), momentum = static_cast<T>(step.momentum);
    const auto pulled = [&](std::int64_t compact, std::int64_t flat) {
        return gradient[compact] + pull * (parameters[flat] - anchor[flat]);
    };

    T factor = 1;
    if (step.clip > 0) {
        double squares = 0;
        for_each_run(layout, submodel, [&](std::int64_t compact, std::int64_t flat, std::int64_t length) {
            for (std::int64_t entry = 0; entry < length; ++entry) {
                const double q = pulled(compact + entry, flat + entry);
                squares += q * q;
            }
        });
        const double allowed = step.clip / (std::sqrt(squares) + 1e-6);
        if (!(allowed >= 1)) factor = static_cast<T>(allowed);  // a norm that is not a number stays visible
    }

    for_each_run(layout, submodel, [&](std::int64_t compact, std::int64_t flat, std::int64_t length) {
        for (std::int64_t entry = 0; entry < length; ++entry) {
            T& weight = parameters[flat + entry];
            T q = pulled(compact + entry, flat + entry);
            q = q * factor;
            q = q + weight_decay * weight;
            if (!velocity.empty()) q = velocity[flat + entry] = momentum * velocity[flat + entry] + q;
            weight = weight - lr * q;
        }
    });
}

template void scatter_update(const Layout&, const Submodel&, const Step&, std::span<const float>,
                             std::span<const float>, std::span<float>, std::span<float>);
template void scatter_update(const Layout&, const Submodel&, const Step&, std::span<const double>,
                             std::span<const double>, std::span<double>, std::span<double>);

}  // namespace fedlps::FEDLPS_ISA
