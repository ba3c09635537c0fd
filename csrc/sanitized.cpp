// Every kernel of every instruction set on drawn layouts, and the engine on drawn chains, with buffers of exactly the size they may touch. Built with
// FEDLPS_SANITIZE and run by tests/kernels/test_sanitized.py: the sanitizers are the check.
#include <cstdio>
#include <random>
#include <vector>

#include "common/parallel.h"
#include "cpu/isa.h"
#include "sanitized_engine.h"

using namespace fedlps;

namespace {

std::mt19937 generator(0);

std::int64_t drawn(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(generator);
}

template <class T>
std::vector<T> values(std::int64_t size) {
    std::normal_distribution<T> normal;
    std::vector<T> drawn_values(static_cast<std::size_t>(size));
    for (T& value : drawn_values) value = normal(generator);
    return drawn_values;
}

struct Drawn {
    std::vector<Layer> layers;
    std::vector<std::int64_t> groups{0};
    std::int64_t size = 0;

    Drawn() {
        const std::int64_t number = drawn(0, 3);
        for (std::int64_t group = 0; group < number; ++group) groups.push_back(groups.back() + drawn(1, 9));
        for (std::int64_t layer = drawn(1, 4); layer > 0; --layer) {
            const std::int64_t row_group = drawn(-1, number - 1), column_group = drawn(-1, number - 1);
            Layer next{row_group, column_group, units_of(row_group), units_of(column_group), drawn(1, 20), size, -1, -1, -1};
            size += next.rows * next.columns * next.inner;
            for (std::int64_t* vector : {&next.bias, &next.scale, &next.shift})
                if (drawn(0, 1)) {
                    *vector = size;
                    size += next.rows;
                }
            layers.push_back(next);
        }
    }

    std::int64_t units_of(std::int64_t group) const {
        return group < 0 ? drawn(1, 9) : groups[group + 1] - groups[group];
    }
};

template <class T>
void run(const Kernels<T>& kernels, const Drawn& model) {
    const Layout layout{model.layers, model.groups};
    const std::int64_t units = model.groups.back();
    auto parameters = values<T>(model.size), anchor = values<T>(model.size), velocity = values<T>(model.size);
    std::vector<T> sums(units), stepped(units);
    const auto redundancy = values<T>(units), gradient = values<T>(units);
    std::vector<std::int32_t> counts, kept(units), ranks(units, -1);
    for (std::size_t group = 0; group + 1 < model.groups.size(); ++group)
        counts.push_back(static_cast<std::int32_t>(drawn(0, model.groups[group + 1] - model.groups[group])));

    kernels.unit_abs_sum(layout, parameters, sums);
    kernels.importance_step(layout, redundancy, sums, gradient, 0.1, 1.0, 0.5, true, stepped);
    kernels.select_units(layout, stepped, counts, kept);

    const Submodel submodel{kept, counts};
    std::vector<std::int64_t> starts;
    std::int64_t compact_size = 0;
    for (std::size_t group = 0; group < counts.size(); ++group)
        for (std::int32_t rank = 0; rank < counts[group]; ++rank)
            ranks[model.groups[group] + kept[model.groups[group] + rank]] = rank;
    for (const Layer& layer : model.layers) {
        starts.push_back(compact_size);
        const std::int64_t rows = layer.row_group < 0 ? layer.rows : counts[layer.row_group];
        const std::int64_t columns = layer.column_group < 0 ? layer.columns : counts[layer.column_group];
        compact_size += rows * (columns * layer.inner + (layer.bias >= 0) + (layer.scale >= 0) + (layer.shift >= 0));
    }
    std::vector<T> compact(compact_size), scattered(model.size), result(model.size);
    kernels.gather_weights(layout, submodel, parameters, compact);
    kernels.scatter_weights(layout, submodel, compact, scattered);
    kernels.scatter_update(layout, submodel, {0.1, 0.01, 0.001, 1.0, 0.9}, compact, anchor, parameters, velocity);

    const std::vector<double> weights{0.5};
    const Cohort cohort{1,     units,  static_cast<std::int64_t>(counts.size()), compact_size, ranks, counts,
                        starts, weights};
    for (std::size_t index = 0; index < model.layers.size(); ++index) {
        const Layer& layer = model.layers[index];
        // each worker has its own scratch, as the op's threads have
        std::vector<std::vector<double>> scratch(3, std::vector<double>(layer.columns * (layer.inner + 1)));
        parallel_for(layer.rows, 3, [&](std::int64_t row, int worker) {
            kernels.aggregate_row(layout, cohort, row % 2 == 0, static_cast<std::int64_t>(index), row, parameters, compact,
                                  scratch[worker], result);
        });
    }
}

}  // namespace

int main() {
    for (const InstructionSet* set : available_isas()) {
        for (int repetition = 0; repetition < 200; ++repetition) {
            const Drawn model;
            run(set->single, model);
            run(set->wide, model);
            run_engine(*set, generator);
        }
        std::printf("%s: clean\n", std::string(set->name).c_str());
    }
}
