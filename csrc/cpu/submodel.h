// Walks the entries of a client's submodel in compact order. Every instruction set shares it.
#pragma once

#include <cstdint>

#include "common/layout.h"

namespace fedlps {

// One side of a layer as a client holds it: the listed units, or all of them.
struct Side {
    const std::int32_t* kept;  // null: all
    std::int64_t count;

    [[gnu::always_inline]] std::int64_t operator[](std::int64_t index) const { return kept ? kept[index] : index; }
};

[[gnu::always_inline]] inline Side side(const Layout& layout, const Submodel& submodel, std::int64_t group, std::int64_t all) {
    if (group < 0) return {nullptr, all};
    return {submodel.kept.data() + layout.groups[group], submodel.counts[group]};
}

// Calls visit(compact, flat, length) for each run of entries that lie together in both vectors.
template <class Visit>
[[gnu::always_inline]] inline void for_each_run(const Layout& layout, const Submodel& submodel, const Visit& visit) {
    std::int64_t compact = 0;
    for (const Layer& layer : layout.layers) {
        const Side rows = side(layout, submodel, layer.row_group, layer.rows);
        const Side columns = side(layout, submodel, layer.column_group, layer.columns);
        const std::int64_t width = columns.kept ? layer.inner : layer.columns * layer.inner;
        const std::int64_t runs = columns.kept ? columns.count : 1;
        for (std::int64_t row = 0; row < rows.count; ++row) {
            const std::int64_t start = layer.weight + rows[row] * layer.columns * layer.inner;
            for (std::int64_t run = 0; run < runs; ++run, compact += width)
                visit(compact, start + columns[run] * layer.inner, width);
        }
        for (const std::int64_t vector : {layer.bias, layer.scale, layer.shift}) {
            if (vector < 0) continue;
            if (!rows.kept) {
                visit(compact, vector, rows.count);
                compact += rows.count;
                continue;
            }
            for (std::int64_t row = 0; row < rows.count; ++row, ++compact) visit(compact, vector + rows[row], 1);
        }
    }
}

}  // namespace fedlps
