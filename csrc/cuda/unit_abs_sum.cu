// Per unit the sum of |entries| of its rows: a warp for each client and unit, so nothing is added across warps.
#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/warp.h"
#include "cuda/work.h"

namespace fedlps::cuda {
namespace {

constexpr int TOGETHER = 8;  // loads in flight per lane

// Entry e belongs to lane e % 32 wherever the row begins: the bits do not depend on the client's place in the cohort.
template <class T>
__device__ T absolute_sum(const T* row, std::int64_t width) {
    T parts[TOGETHER] = {};
    for (std::int64_t first = lane(); first < width; first += TOGETHER * LANES)
#pragma unroll
        for (int part = 0; part < TOGETHER; ++part)
            if (first + part * LANES < width) parts[part] += abs(row[first + part * LANES]);
#pragma unroll
    for (int half = TOGETHER / 2; half > 0; half /= 2)
#pragma unroll
        for (int part = 0; part < half; ++part) parts[part] += parts[part + half];
    return warp_sum(parts[0]);
}

template <class T>
__global__ void __launch_bounds__(WARPS* LANES)
    sum_units(Model model, std::int64_t clients, const T* __restrict__ parameters, T* __restrict__ sums) {
    const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * WARPS + warp();
    if (item >= clients * model.units) return;
    const std::int64_t client = item / model.units, unit = item % model.units, group = group_of(model, unit);
    T sum = 0;
    for_each_layer(model, group, [&](std::int64_t number) {
        const Layer& layer = model.layers[number];
        const std::int64_t width = layer.columns * layer.inner, row = unit - model.groups[group];
        sum += absolute_sum(parameters + client * model.parameters + layer.weight + row * width, width);
    });
    if (lane() == 0) sums[item] = sum;
}

}  // namespace

template <class T>
void unit_abs_sum(const Model& model, std::int64_t clients, const T* parameters, T* sums, Stream stream) {
    launch("unit_abs_sum", sum_units<T>, quotient(clients * model.units, WARPS), WARPS * LANES, stream, model, clients,
           parameters, sums);
}

template void unit_abs_sum(const Model&, std::int64_t, const float*, float*, Stream);
template void unit_abs_sum(const Model&, std::int64_t, const double*, double*, Stream);

}  // namespace fedlps::cuda
