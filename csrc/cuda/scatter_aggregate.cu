// The cohort's residuals, gathered: a thread for each entry of the global model adds the clients in their order.
#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/warp.h"
#include "cuda/work.h"

namespace fedlps::cuda {
namespace {

__global__ void __launch_bounds__(WARPS* LANES) clear(std::int64_t size, std::int32_t* __restrict__ ranks) {
    const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * (WARPS * LANES) + threadIdx.x;
    if (item < size) ranks[item] = -1;
}

// A warp for each client and group.
__global__ void __launch_bounds__(WARPS* LANES)
    rank(Model model, Cohort cohort, std::int32_t* __restrict__ ranks) {
    const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * WARPS + warp();
    if (item >= cohort.clients * model.group_count) return;
    const std::int64_t first = item / model.group_count * model.units + model.groups[item % model.group_count];
    for (std::int32_t place = lane(); place < cohort.counts[item]; place += LANES)
        ranks[first + cohort.kept[first + place]] = place;
}

template <class T>
__global__ void __launch_bounds__(CHUNK)
    aggregate(Model model, std::int64_t clients, const T* __restrict__ parameters, const T* __restrict__ residuals,
              Places places, const std::int32_t* __restrict__ ranks, const double* __restrict__ weights, bool holders,
              T* __restrict__ result) {
    const std::int64_t piece = blockIdx.x, number = layer_of(model.first_chunk, model.layer_count, piece);
    const Layer& layer = model.layers[number];
    const std::int64_t width = layer.columns * layer.inner, across = quotient(width + 3, CHUNK);
    const std::int64_t within = piece - model.first_chunk[number], row = within / across;
    const std::int64_t entry = within % across * CHUNK + threadIdx.x;  // behind the row: its bias, scale and shift
    if (entry >= width + 3) return;
    const int vector = static_cast<int>(entry - width);
    if (vector >= 0 && vector_of(layer, vector) < 0) return;
    const std::int64_t flat = vector < 0 ? layer.weight + row * width + entry : vector_of(layer, vector) + row;
    const std::int64_t column = entry / layer.inner, place = entry % layer.inner;
    double sum = 0, held = 0;
    // All ranks are read before it is known who holds the entry, so that the reads of several clients overlap.
#pragma unroll 4
    for (std::int64_t client = 0; client < clients; ++client) {
        const std::int32_t* own = ranks + client * model.units;
        const std::int64_t row_rank = layer.row_group < 0 ? row : own[model.groups[layer.row_group] + row];
        const std::int64_t rank = vector >= 0              ? 0
                                  : layer.column_group < 0 ? column
                                                           : own[model.groups[layer.column_group] + column];
        if (row_rank < 0 || rank < 0) continue;
        const std::int64_t at = client * model.layer_count + number;
        const std::int64_t from = vector >= 0 ? places.vectors[at * 3 + vector] + row_rank
                                              : places.weight[at] + row_rank * places.row[at] +
                                                    rank * places.column[at] + place * places.inner[at];
        sum += weights[client] * static_cast<double>(residuals[from]);
        held += weights[client];
    }
    const auto before = static_cast<double>(parameters[flat]);
    if (holders) sum = held > 0 ? sum / held : 0.0;
    result[flat] = static_cast<T>(before - sum);
}

}  // namespace

void rank_units(const Model& model, const Cohort& cohort, std::int32_t* ranks, Stream stream) {
    const std::int64_t size = cohort.clients * model.units;
    launch("rank_units", clear, quotient(size, WARPS * LANES), WARPS * LANES, stream, size, ranks);
    launch("rank_units", rank, quotient(cohort.clients * model.group_count, WARPS), WARPS * LANES, stream, model, cohort,
           ranks);
}

template <class T>
void scatter_aggregate(const Model& model, std::int64_t clients, const T* parameters, const T* residuals,
                       const Places& places, const std::int32_t* ranks, const double* weights, bool holders, T* result,
                       Stream stream) {
    launch("scatter_aggregate", aggregate<T>, model.chunks, CHUNK, stream, model, clients, parameters, residuals, places,
           ranks, weights, holders, result);
}

template void scatter_aggregate(const Model&, std::int64_t, const float*, const float*, const Places&,
                                const std::int32_t*, const double*, bool, float*, Stream);
template void scatter_aggregate(const Model&, std::int64_t, const double*, const double*, const Places&,
                                const std::int32_t*, const double*, bool, double*, Stream);

}  // namespace fedlps::cuda
