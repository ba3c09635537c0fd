// A model's layout, as fedlps_kernels/layout.py describes it. Plain data: every instruction set's kernels share it.
#pragma once

#include <cstdint>
#include <span>

namespace fedlps {

// One row of the layout's table, read in place.
struct Layer {
    std::int64_t row_group, column_group;  // -1: all rows, all columns are always kept
    std::int64_t rows, columns, inner;     // the weight is (rows, columns, inner), row-major
    std::int64_t weight, bias, scale, shift;  // offsets in the flat vector; -1: none
};
static_assert(sizeof(Layer) == 9 * sizeof(std::int64_t));

struct Layout {
    std::span<const Layer> layers;
    std::span<const std::int64_t> groups;  // group g's units are groups[g] : groups[g + 1]
};

// The units one client keeps: per group `counts[g]` ascending indices from kept[groups[g]] on.
struct Submodel {
    std::span<const std::int32_t> kept;
    std::span<const std::int32_t> counts;
};

// A cohort's submodels, turned round: for each client and unit its rank among the kept ones of its group, or -1.
struct Cohort {
    std::int64_t clients, units, groups, capacity;
    std::span<const std::int32_t> ranks;   // (clients, units)
    std::span<const std::int32_t> counts;  // (clients, groups)
    std::span<const std::int64_t> starts;  // (clients, layers): where a layer begins in the compact vector
    std::span<const double> weights;       // (clients)
};

// How one local step changes the kept entries (spec section 4, step 3).
struct Step {
    double lr, pull, weight_decay, clip, momentum;
};

}  // namespace fedlps
