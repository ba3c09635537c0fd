// What the lanes of a warp do together. All 32 take part in each of these.
#pragma once

#include <cuda_runtime.h>

#include "cuda/views.h"

namespace fedlps::cuda {

constexpr int LANES = 32;
constexpr int WARPS = 8;  // of a block
constexpr unsigned ALL = 0xffffffffU;

__device__ inline int lane() { return static_cast<int>(threadIdx.x) % LANES; }
__device__ inline int warp() { return static_cast<int>(threadIdx.x) / LANES; }

// The sum over all lanes, in a fixed tree; every lane has it.
template <class T>
__device__ T warp_sum(T value) {
    for (int distance = LANES / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL, value, distance);
    return value;
}

__device__ inline bool left_alone(const Active& active, std::int64_t client) {
    return active.samples && active.samples[client] == 0;
}

// The group that holds a unit of all groups' units.
__device__ inline std::int64_t group_of(const Model& model, std::int64_t unit) {
    for (std::int64_t first = 0;; first += LANES) {
        const std::int64_t group = first + lane();
        const bool within = group < model.group_count && model.groups[group] <= unit && unit < model.groups[group + 1];
        const unsigned found = __ballot_sync(ALL, within);
        if (found) return first + __ffs(static_cast<int>(found)) - 1;
    }
}

// Calls visit(layer) for the layers whose rows are a group's units, in table order.
template <class Visit>
__device__ void for_each_layer(const Model& model, std::int64_t group, const Visit& visit) {
    for (std::int64_t first = 0; first < model.layer_count; first += LANES) {
        const std::int64_t layer = first + lane();
        unsigned found = __ballot_sync(ALL, layer < model.layer_count && model.layers[layer].row_group == group);
        for (; found; found &= found - 1) visit(first + __ffs(static_cast<int>(found)) - 1);
    }
}

// The piece of work's place among the layers: first[layer] <= piece < first[layer + 1].
__device__ inline std::int64_t layer_of(const std::int64_t* first, std::int64_t layers, std::int64_t piece) {
    std::int64_t low = 0, high = layers;
    while (high - low > 1) {
        const std::int64_t middle = (low + high) / 2;
        (first[middle] <= piece ? low : high) = middle;
    }
    return low;
}

// The kept units of one client in a group, or in the order they are in.
struct Units {
    const std::int32_t* kept;  // null: all, or the leading ones

    __device__ int operator[](int rank) const { return kept ? kept[rank] : rank; }
};

// The offset of a layer's bias, scale or shift.
__device__ inline std::int64_t vector_of(const Layer& layer, int vector) {
    return vector == 0 ? layer.bias : vector == 1 ? layer.scale : layer.shift;
}

// How many units one client keeps of a group of so many; all of those that are in no group.
__device__ inline int count_of(const Model& model, const Cohort& cohort, std::int64_t client, std::int64_t group,
                               std::int64_t all) {
    return group < 0 ? static_cast<int>(all) : cohort.counts[client * model.group_count + group];
}

// All of a group's units in a row need no list.
__device__ inline Units units_of(const Model& model, const Cohort& cohort, std::int64_t client, std::int64_t group) {
    if (group < 0 || !cohort.kept) return {nullptr};
    const std::int64_t first = model.groups[group], size = model.groups[group + 1] - first;
    if (count_of(model, cohort, client, group, size) == size) return {nullptr};
    return {cohort.kept + client * model.units + first};
}

// Entries of (columns, inner) in order, one lane's: every 32nd. A division per entry would cost more than the entry.
struct Walk {
    int column, place;  // of the entry, place < inner

    __device__ Walk(int entry, int inner) : column(entry / inner), place(entry % inner) {}

    __device__ void next(int columns_each, int places_each, int inner) {
        column += columns_each;
        place += places_each;
        if (place >= inner) ++column, place -= inner;
    }
};

}  // namespace fedlps::cuda
