// One step of every redundancy: a thread for each client and unit.
#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/warp.h"
#include "cuda/work.h"

namespace fedlps::cuda {
namespace {

// sigmoid(-a); dividing exp(-a) by 1 + exp(-a) keeps its relative precision however large a is.
__device__ inline double sigmoid_of_negated(double a) {
    const double power = exp(-abs(a));
    return (a < 0 ? 1.0 : power) / (1.0 + power);
}

template <class T>
__global__ void __launch_bounds__(WARPS* LANES)
    step(Model model, std::int64_t clients, const T* redundancy, const T* __restrict__ sums,
         const T* __restrict__ unit_gradient, const T* __restrict__ lr, Importance importance, Active active, T* stepped) {
    const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * (WARPS * LANES) + threadIdx.x;
    if (item >= clients * model.units) return;
    const std::int64_t client = item / model.units, unit = item % model.units;
    if (left_alone(active, client)) return;
    std::int64_t group = 0;
    while (model.groups[group + 1] <= unit) ++group;
    const auto size = static_cast<double>(model.groups[group + 1] - model.groups[group]);
    const double coefficient = importance.mean ? 2.0 * importance.lam / size : 2.0 * importance.lam;
    // In double for float as well: redundancies near 1e-38 differ by less than float's rounding of the sum.
    const double d = redundancy[item];
    const double pull = coefficient * (d - sigmoid_of_negated(sums[item]));
    const double gradient = unit_gradient ? static_cast<double>(unit_gradient[item]) : 0.0;
    stepped[item] = static_cast<T>(d - static_cast<double>(*lr) * (pull - importance.kappa * gradient));
    if (active.lost && !isfinite(stepped[item])) atomicOr(&active.lost[client], 1);
}

}  // namespace

template <class T>
void importance_step(const Model& model, std::int64_t clients, const T* redundancy, const T* sums,
                     const T* unit_gradient, const T* lr, const Importance& importance, const Active& active, T* stepped,
                     Stream stream) {
    launch("importance_step", step<T>, quotient(clients * model.units, WARPS * LANES), WARPS * LANES, stream, model,
           clients, redundancy, sums, unit_gradient, lr, importance, active, stepped);
}

template void importance_step(const Model&, std::int64_t, const float*, const float*, const float*, const float*,
                              const Importance&, const Active&, float*, Stream);
template void importance_step(const Model&, std::int64_t, const double*, const double*, const double*, const double*,
                              const Importance&, const Active&, double*, Stream);

}  // namespace fedlps::cuda
