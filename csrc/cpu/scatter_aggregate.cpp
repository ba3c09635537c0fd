#include <algorithm>

#include "cpu/declarations.h"

namespace fedlps::FEDLPS_ISA {
namespace {

// w less the weighted residuals, or less their mean over those who hold the entry.
template <class T>
T aggregated(T weight, double sum, double held, bool holders) {
    if (holders && !(held > 0)) return weight;
    return static_cast<T>(static_cast<double>(weight) - (holders ? sum / held : sum));
}

}  // namespace

template <class T>
void aggregate_row(const Layout& layout, const Cohort& cohort, bool holders, std::int64_t index, std::int64_t row,
                   std::span<const T> parameters, std::span<const T> residuals, std::span<double> scratch,
                   std::span<T> result) {
    const Layer& layer = layout.layers[index];
    const std::int64_t vectors[] = {layer.bias, layer.scale, layer.shift};
    double vector_sums[3] = {}, row_held = 0;
    const auto sums = scratch.first(layer.columns * layer.inner);
    const auto held = scratch.subspan(sums.size(), layer.columns);
    for (double& sum : sums) sum = 0;
    for (double& total : held) total = 0;

    // Clients in cohort order: the order of the sum never depends on threads.
    for (std::int64_t client = 0; client < cohort.clients; ++client) {
        const auto ranks = cohort.ranks.subspan(client * cohort.units, cohort.units);
        const auto counts = cohort.counts.subspan(client * cohort.groups, cohort.groups);
        const bool thin_rows = layer.row_group >= 0, thin_columns = layer.column_group >= 0;
        const std::int64_t rank = thin_rows ? ranks[layout.groups[layer.row_group] + row] : row;
        if (rank < 0) continue;
        const std::int64_t rows = thin_rows ? counts[layer.row_group] : layer.rows;
        const std::int64_t columns = thin_columns ? counts[layer.column_group] : layer.columns;
        const std::int32_t* column_ranks = thin_columns ? ranks.data() + layout.groups[layer.column_group] : nullptr;
        const double share = cohort.weights[client];
        const T* compact = residuals.data() + client * cohort.capacity + cohort.starts[client * layout.layers.size() + index];
        const T* weights = compact + rank * columns * layer.inner;

        row_held += share;
        for (std::int64_t column = 0; column < layer.columns; ++column) {
            const std::int64_t position = column_ranks ? column_ranks[column] : column;
            if (position < 0) continue;
            held[column] += share;
            for (std::int64_t entry = 0; entry < layer.inner; ++entry)
                sums[column * layer.inner + entry] += share * static_cast<double>(weights[position * layer.inner + entry]);
        }
        const T* values = compact + rows * columns * layer.inner + rank;
        for (int vector = 0; vector < 3; ++vector) {
            if (vectors[vector] < 0) continue;
            vector_sums[vector] += share * static_cast<double>(*values);
            values += rows;
        }
    }

    for (std::int64_t column = 0; column < layer.columns; ++column)
        for (std::int64_t entry = 0; entry < layer.inner; ++entry) {
            const std::int64_t offset = column * layer.inner + entry;
            const std::int64_t flat = layer.weight + row * layer.columns * layer.inner + offset;
            result[flat] = aggregated(parameters[flat], sums[offset], held[column], holders);
        }
    for (int vector = 0; vector < 3; ++vector)
        if (vectors[vector] >= 0) {
            const std::int64_t flat = vectors[vector] + row;
            result[flat] = aggregated(parameters[flat], vector_sums[vector], row_held, holders);
        }
}

template void aggregate_row(const Layout&, const Cohort&, bool, std::int64_t, std::int64_t, std::span<const float>,
                            std::span<const float>, std::span<double>, std::span<float>);
template void aggregate_row(const Layout&, const Cohort&, bool, std::int64_t, std::int64_t, std::span<const double>,
                            std::span<const double>, std::span<double>, std::span<double>);

}  // namespace fedlps::FEDLPS_ISA
