// The kept entries of one unit's rows, as a warp takes them: gradients come in any order of places, weights in the model's.
#pragma once

#include "cuda/warp.h"

namespace fedlps::cuda {

constexpr int STAGE_PLACES = 9;                    // of inner, per turn through shared memory: a 3 x 3 kernel's
constexpr int STAGE = LANES * (STAGE_PLACES | 1);  // entries of a warp's part
constexpr int TOGETHER = 4;                        // loads in flight per lane

// A line: one unit's rows in all layers of its group, or one row of a layer without a row group.
struct Line {
    std::int64_t client, number, group, rank;  // number: among units + lines; rank: among the client's kept units

    // False for units beyond the client's count.
    __device__ bool find(const Model& model, const Cohort& cohort, std::int64_t item) {
        const std::int64_t lines = model.units + model.lines;
        client = item / lines, number = item % lines, group = -1, rank = number;
        if (number >= model.units) return true;
        group = group_of(model, number);
        rank = number - model.groups[group];
        return rank < cohort.counts[client * model.group_count + group];
    }

    // Calls visit(layer, row's rank) for each of its rows.
    template <class Visit>
    __device__ void for_each_row(const Model& model, const Visit& visit) const {
        if (group >= 0) {
            for_each_layer(model, group, [&](std::int64_t layer) { visit(layer, rank); });
        } else {
            const std::int64_t piece = number - model.units, layer = layer_of(model.first_line, model.layer_count, piece);
            visit(layer, piece - model.first_line[layer]);
        }
    }
};

// Up to TOGETHER entries of one lane: where each lies among the client's P, and its gradient. -1: there is none.
template <class T>
struct Entries {
    int flat[TOGETHER];
    T gradient[TOGETHER];
};

// How many leading columns of a row passes take, one taking the most; -1: none takes the row.
__device__ inline int columns_within(const Model& model, const Cohort& cohort, const Widths& widths, std::int64_t client,
                                     const Layer& layer, int rank, int columns) {
    if (!widths.counts) return columns;
    int most = -1;
    for (int pass = 0; pass < widths.passes; ++pass) {
        const std::int32_t* counts = widths.counts + (pass * cohort.clients + client) * model.group_count;
        if (layer.row_group >= 0 && rank >= counts[layer.row_group]) continue;
        most = max(most, layer.column_group < 0 ? columns : min(columns, counts[layer.column_group]));
    }
    return most;
}

// Calls visit(layer, entries, whether they are of the weight) for all kept entries of a line within the widths; of its
// vectors lane 0 has the bias, 1 the scale, 2 the shift. stage: the warp's own memory.
template <class T, class Visit>
__device__ void for_each_entry(const Model& model, const Cohort& cohort, const Widths& widths, const Line& line,
                               const T* __restrict__ gradient, const Places& places, T* stage, const Visit& visit) {
    line.for_each_row(model, [&](std::int64_t number, std::int64_t rank) {
        const Layer& layer = model.layers[number];
        const std::int64_t at = line.client * model.layer_count + number;
        const Units rows = units_of(model, cohort, line.client, layer.row_group);
        const Units units = units_of(model, cohort, line.client, layer.column_group);
        const int row = rows[static_cast<int>(rank)], inner = static_cast<int>(layer.inner);
        const int flat = static_cast<int>(layer.weight + row * layer.columns * layer.inner);
        const int column_step = static_cast<int>(places.column[at]), place_step = static_cast<int>(places.inner[at]);
        const T* from = gradient + places.weight[at] + rank * places.row[at];
        const int kept_columns = count_of(model, cohort, line.client, layer.column_group, layer.columns);
        const int columns =
            columns_within(model, cohort, widths, line.client, layer, static_cast<int>(rank), kept_columns);
        if (columns < 0) return;
        // As in the model, the places of a column follow one another, and the columns: no turn through shared memory.
        const bool straight = column_step == inner;
        for (int first_place = 0; first_place < inner; first_place += STAGE_PLACES) {
            const int depth = min(STAGE_PLACES, inner - first_place), pitch = depth | 1;
            const int columns_each = LANES / depth, places_each = LANES % depth;
            const int width = straight && depth == 1 ? TOGETHER * LANES : LANES;  // columns per turn
            for (int first_column = 0; first_column < columns; first_column += width) {
                const int present = min(width, columns - first_column);
                const T* corner = from + first_column * column_step + first_place * place_step;
                if (!straight) {
#pragma unroll 3
                    for (int place = 0; place < STAGE_PLACES; ++place)
                        if (place < depth && lane() < present)
                            stage[lane() * pitch + place] = corner[lane() * column_step + place * place_step];
                    __syncwarp();
                }
                Walk walk(lane(), depth);
                while (walk.column < present) {
                    Entries<T> entries;
#pragma unroll
                    for (int each = 0; each < TOGETHER; ++each, walk.next(columns_each, places_each, depth)) {
                        entries.flat[each] = -1;
                        if (walk.column >= present) continue;
                        entries.flat[each] = flat + units[first_column + walk.column] * inner + first_place + walk.place;
                        entries.gradient[each] = straight ? corner[walk.column * column_step + walk.place * place_step]
                                                          : stage[walk.column * pitch + walk.place];
                    }
                    visit(layer, entries, true);
                }
                if (!straight) __syncwarp();
            }
        }
        Entries<T> vectors;
#pragma unroll
        for (int each = 0; each < TOGETHER; ++each) vectors.flat[each] = -1;
        if (lane() < 3 && vector_of(layer, lane()) >= 0) {
            vectors.flat[0] = static_cast<int>(vector_of(layer, lane())) + row;
            vectors.gradient[0] = gradient[places.vectors[at * 3 + lane()] + rank];
        }
        visit(layer, vectors, false);
    });
}

}  // namespace fedlps::cuda
