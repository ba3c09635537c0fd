// The SGD step on kept entries: a warp for each client and line. With clip, first the squares of each line, then each
// client's factor from them in a fixed order.
#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/step.h"
#include "cuda/work.h"

namespace fedlps::cuda {
namespace {

// A line's kept unit among all clients' units.
__device__ inline std::int64_t unit_at(const Model& model, const Cohort& cohort, const Line& line) {
    const Units units = units_of(model, cohort, line.client, line.group);
    return line.client * model.units + model.groups[line.group] + units[static_cast<int>(line.rank)];
}

// What the gradient and the pulls ask of one entry.
template <class T>
__device__ T pulled(const Update<T>& update, std::int64_t client, int flat, T gradient, T weight) {
    T q = gradient;
    for (int number = 0; number < update.pull_count; ++number) {
        const Pull<T>& pull = update.pulls[number];
        q += pull.coefficient * (weight - pull.reference[client * pull.client_pitch + flat]);
    }
    return q;
}

template <class T>
__global__ void __launch_bounds__(WARPS* LANES, 2)
    square_lines(Model model, Cohort cohort, const T* __restrict__ parameters, const T* __restrict__ gradient,
                 Places places, Update<T> update, Active active, double* __restrict__ squares) {
    __shared__ T stages[WARPS][STAGE];
    const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * WARPS + warp();
    Line line;
    if (item >= cohort.clients * (model.units + model.lines)) return;
    double sum = 0;
    if (line.find(model, cohort, item) && !left_alone(active, line.client)) {
        const T* weights = parameters + line.client * model.parameters;
        const auto visit = [&](const Layer&, const Entries<T>& entries, bool) {
#pragma unroll
            for (int each = 0; each < TOGETHER; ++each) {
                if (entries.flat[each] < 0) continue;
                const int flat = entries.flat[each];
                const double q = pulled(update, line.client, flat, entries.gradient[each], weights[flat]);
                sum += q * q;
            }
        };
        for_each_entry(model, cohort, update.widths, line, gradient, places, stages[warp()], visit);
        sum = warp_sum(sum);
    }
    if (lane() == 0) squares[item] = sum;
}

// A block for each client. The order of the sum depends on the model alone.
__global__ void __launch_bounds__(WARPS* LANES)
    clip_factors(std::int64_t lines, const double* __restrict__ squares, double clip, double* __restrict__ factors) {
    __shared__ double parts[WARPS];
    const double* own = squares + static_cast<std::int64_t>(blockIdx.x) * lines;
    double sum = 0;
    for (std::int64_t number = threadIdx.x; number < lines; number += WARPS * LANES) sum += own[number];
    sum = warp_sum(sum);
    if (lane() == 0) parts[warp()] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    double total = 0;
    for (const double part : parts) total += part;
    const double allowed = clip / (sqrt(total) + 1e-6);
    factors[blockIdx.x] = allowed >= 1 ? 1.0 : allowed;  // a norm that is not a number stays visible
}

template <class T>
__global__ void __launch_bounds__(WARPS* LANES, 2)
    update_lines(Model model, Cohort cohort, T* __restrict__ parameters, const T* __restrict__ gradient, Places places,
                 Update<T> update, const double* __restrict__ factors, Active active, const T* __restrict__ dropped,
                 T* __restrict__ sums) {
    __shared__ T stages[WARPS][STAGE];
    const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * WARPS + warp();
    Line line;
    if (item >= cohort.clients * (model.units + model.lines)) return;
    if (!line.find(model, cohort, item) || left_alone(active, line.client)) return;
    T* weights = parameters + line.client * model.parameters;
    T* velocity = update.velocity ? update.velocity + line.client * model.parameters : nullptr;
    const T lr = *update.lr, factor = factors ? static_cast<T>(factors[line.client]) : T{1};
    const T decay = static_cast<T>(update.weight_decay), momentum = static_cast<T>(update.momentum);
    T sum = 0;
    bool lost = false;
    const auto visit = [&](const Layer&, const Entries<T>& entries, bool weight_entries) {
        T before[TOGETHER], carried[TOGETHER];
#pragma unroll
        for (int each = 0; each < TOGETHER; ++each) {
            if (entries.flat[each] < 0) continue;
            before[each] = weights[entries.flat[each]];
            if (velocity) carried[each] = velocity[entries.flat[each]];
        }
#pragma unroll
        for (int each = 0; each < TOGETHER; ++each) {
            if (entries.flat[each] < 0) continue;
            const int flat = entries.flat[each];
            T q = pulled(update, line.client, flat, entries.gradient[each], before[each]);
            q = q * factor;
            q = q + decay * before[each];
            if (velocity) velocity[flat] = q = momentum * carried[each] + q;
            const T after = before[each] - lr * q;
            weights[flat] = after;
            if (weight_entries) sum += abs(after);
            lost = lost || !isfinite(after);
        }
    };
    for_each_entry(model, cohort, update.widths, line, gradient, places, stages[warp()], visit);
    if (active.lost && lost) atomicOr(&active.lost[line.client], 1);
    if (!sums || line.group < 0) return;
    sum = warp_sum(sum);
    if (lane() != 0) return;
    const std::int64_t unit = unit_at(model, cohort, line);
    sums[unit] = (dropped ? dropped[unit] : T{0}) + sum;
}

template <class T>
__global__ void __launch_bounds__(WARPS* LANES, 2)
    sum_gates(Model model, Cohort cohort, const T* __restrict__ parameters, const T* __restrict__ gradient, Places places,
              T* __restrict__ gates) {
    __shared__ T stages[WARPS][STAGE];
    const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * WARPS + warp();
    Line line;
    if (item >= cohort.clients * (model.units + model.lines)) return;
    if (!line.find(model, cohort, item) || line.group < 0) return;
    const T* weights = parameters + line.client * model.parameters;
    T sum = 0;
    const auto visit = [&](const Layer& layer, const Entries<T>& entries, bool weight_entries) {
        // with a norm the gate is behind it: its scale and shift alone
        const bool counts = layer.scale < 0 || (!weight_entries && lane() > 0);
#pragma unroll
        for (int each = 0; each < TOGETHER; ++each)
            if (counts && entries.flat[each] >= 0) sum += weights[entries.flat[each]] * entries.gradient[each];
    };
    for_each_entry(model, cohort, Widths{}, line, gradient, places, stages[warp()], visit);
    sum = warp_sum(sum);
    if (lane() == 0) gates[unit_at(model, cohort, line)] = sum;
}

template <class T>
__global__ void __launch_bounds__(WARPS* LANES)
    sum_dropped(Model model, Cohort cohort, const T* __restrict__ parameters, const std::int32_t* __restrict__ ranks,
                const std::int32_t* __restrict__ changed, T* __restrict__ dropped) {
    const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * WARPS + warp();
    if (item >= cohort.clients * model.units) return;
    const std::int64_t client = item / model.units, group = group_of(model, item % model.units);
    const std::int64_t row = item % model.units - model.groups[group];
    if (ranks[item] < 0) return;
    const std::int32_t* of_client = changed ? changed + client * model.group_count : nullptr;
    bool anew = !of_client || of_client[group];
    for_each_layer(model, group, [&](std::int64_t number) {
        const std::int64_t columns = model.layers[number].column_group;
        anew = anew || (columns >= 0 && of_client[columns]);
    });
    if (!anew) return;
    T sum = 0;
    for_each_layer(model, group, [&](std::int64_t number) {
        const Layer& layer = model.layers[number];
        if (layer.column_group < 0) return;  // none are dropped
        if (cohort.counts[client * model.group_count + layer.column_group] == layer.columns) return;
        const std::int32_t* column_ranks = ranks + client * model.units + model.groups[layer.column_group];
        const T* weights = parameters + client * model.parameters + layer.weight + row * layer.columns * layer.inner;
        const int inner = static_cast<int>(layer.inner);
        Walk walk(lane(), inner);
#pragma unroll 4
        for (std::int64_t entry = lane(); entry < layer.columns * inner; entry += LANES) {
            const T magnitude = abs(weights[entry]);
            sum += column_ranks[walk.column] < 0 ? magnitude : T{0};
            walk.next(LANES / inner, LANES % inner, inner);
        }
    });
    sum = warp_sum(sum);
    if (lane() == 0) dropped[item] = sum;
}

}  // namespace

template <class T>
void dropped_sums(const Model& model, const Cohort& cohort, const T* parameters, const std::int32_t* ranks,
                  const std::int32_t* changed, T* dropped, Stream stream) {
    launch("dropped_sums", sum_dropped<T>, quotient(cohort.clients * model.units, WARPS), WARPS * LANES, stream, model,
           cohort, parameters, ranks, changed, dropped);
}

template <class T>
void gate_gradients(const Model& model, const Cohort& cohort, const T* parameters, const T* gradient,
                    const Places& places, T* gates, Stream stream) {
    launch("gate_gradients", sum_gates<T>, quotient(cohort.clients * (model.units + model.lines), WARPS), WARPS * LANES,
           stream, model, cohort, parameters, gradient, places, gates);
}

template <class T>
void scatter_update(const Model& model, const Cohort& cohort, T* parameters, const T* gradient, const Places& places,
                    const Update<T>& update, const Active& active, const T* dropped, T* sums, double* squares,
                    double* factors, Stream stream) {
    const std::int64_t lines = model.units + model.lines, blocks = quotient(cohort.clients * lines, WARPS);
    const bool clipped = update.clip > 0;
    if (clipped) {
        launch("scatter_update", square_lines<T>, blocks, WARPS * LANES, stream, model, cohort, parameters, gradient, places,
               update, active, squares);
        launch("scatter_update", clip_factors, cohort.clients, WARPS * LANES, stream, lines, squares, update.clip, factors);
    }
    launch("scatter_update", update_lines<T>, blocks, WARPS * LANES, stream, model, cohort, parameters, gradient, places,
           update, clipped ? factors : nullptr, active, dropped, sums);
}

template void dropped_sums(const Model&, const Cohort&, const float*, const std::int32_t*, const std::int32_t*, float*,
                           Stream);
template void dropped_sums(const Model&, const Cohort&, const double*, const std::int32_t*, const std::int32_t*, double*,
                           Stream);
template void gate_gradients(const Model&, const Cohort&, const float*, const float*, const Places&, float*, Stream);
template void gate_gradients(const Model&, const Cohort&, const double*, const double*, const Places&, double*, Stream);
template void scatter_update(const Model&, const Cohort&, float*, const float*, const Places&, const Update<float>&,
                             const Active&, const float*, float*, double*, double*, Stream);
template void scatter_update(const Model&, const Cohort&, double*, const double*, const Places&, const Update<double>&,
                             const Active&, const double*, double*, double*, double*, Stream);

}  // namespace fedlps::cuda
