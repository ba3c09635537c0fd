// A model as the engine is told it: the steps of a chain, which may have exits, and where its parameters lie.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/layout.h"

namespace fedlps {

enum class StepKind : std::int64_t { conv, linear, norm, relu, maxpool, avgpool, flatten };

// One row of the table of steps, read in place; fedlps/engine/cpu.py writes it.
struct ProgramStep {
    StepKind kind;
    std::int64_t input;  // the step it reads; -1: the sample
    std::int64_t layer;  // -1: none
    std::int64_t kernel, stride, padding;
    std::int64_t channels, height, width;  // of its output; height and width 1 once flattened
};
static_assert(sizeof(ProgramStep) == 9 * sizeof(std::int64_t));

struct Program {
    Layout layout;
    std::span<const ProgramStep> steps;
    std::span<const std::int64_t> exits;  // the steps whose outputs are the model's
    std::int64_t channels, height, width, classes, parameters;

    std::int64_t units() const { return layout.groups.back(); }
    std::int64_t groups() const { return static_cast<std::int64_t>(layout.groups.size()) - 1; }
};

// Where the layers of a submodel lie in its compact vector, in the order of the layout's ops.
struct CompactLayer {
    std::int64_t rows, columns, inner;        // kept
    std::int64_t weight, bias, scale, shift;  // offsets; -1: none

    std::int64_t width() const { return columns * inner; }
};

struct CompactLayout {
    std::vector<CompactLayer> layers;
    std::int64_t size = 0;

    CompactLayout() = default;
    CompactLayout(const Layout& layout, std::span<const std::int32_t> counts) {
        for (const Layer& layer : layout.layers) {
            const std::int64_t rows = layer.row_group < 0 ? layer.rows : counts[layer.row_group];
            const std::int64_t columns = layer.column_group < 0 ? layer.columns : counts[layer.column_group];
            layers.push_back({rows, columns, layer.inner, size, -1, -1, -1});
            size += rows * columns * layer.inner;
            CompactLayer& held = layers.back();
            if (layer.bias >= 0) held.bias = std::exchange(size, size + rows);
            if (layer.scale >= 0) held.scale = std::exchange(size, size + rows);
            if (layer.shift >= 0) held.shift = std::exchange(size, size + rows);
        }
    }
};

}  // namespace fedlps
