#include <utility>

#include "cpu/conv.h"
#include "cpu/tile.h"

namespace fedlps::FEDLPS_ISA {
namespace {

template <class T>
struct Spot {
    const T* gradient;  // of the first unit: (batch, units)
    std::int64_t units;
    const T* input;  // from the first feature: (batch, features)
    std::int64_t features, batch;
    T* result;  // of the first unit and feature
    std::int64_t lanes;
};

template <class T, int UNITS, int VECTORS>
void tile(const Spot<T>& at) {
    Vector<T> sums[UNITS][VECTORS] = {};
    const Tap tap{{0, 0}, 0};
    const Line line{{0, 0}, 0};
    const Walk walk{at.batch, at.features, at.units, &line, 1, &tap, 1};
    accumulate<T, UNITS, 1, VECTORS>(sums, at.input, at.gradient, walk);
#pragma GCC unroll 16
    for (int unit = 0; unit < UNITS; ++unit)
#pragma GCC unroll 4
        for (int vector = 0; vector < VECTORS; ++vector)
            store_first(at.result + unit * at.features + vector * LANES<T>, sums[unit][vector],
                        at.lanes - vector * LANES<T>);
}

template <class T>
using Tile = void (*)(const Spot<T>&);

template <class T, int VECTORS, int... UNITS>
constexpr auto tiles_of(std::integer_sequence<int, UNITS...>) {
    return Tiles<Tile<T>>{{tile<T, UNITS + 1, VECTORS>...}, sizeof...(UNITS)};
}
template <class T, int VECTORS>
constexpr auto TILES = tiles_of<T, VECTORS>(std::make_integer_sequence<int, MAX_ROWS<1, VECTORS>>());
template <class T>
constexpr const Tiles<Tile<T>>* CHOICES[3] = {&TILES<T, 1>, &TILES<T, 2>, &TILES<T, 4>};

}  // namespace

// Vectors run over the features, since a batch is too short to be summed lane by lane.
template <class T>
void linear_weight_gradient(const Conv<T>& conv) {
    const std::int64_t features = conv.in.channels, batch = conv.in.batch, units = conv.rows;
    T* gradient = conv.packed;
    T* input = conv.partial;
    transpose(conv.input, features, batch, input);
    const Expanded expanded(conv, 1);
    for (std::int64_t unit = 0; unit < units; ++unit)
        for (std::int64_t sample = 0; sample < batch; ++sample)
            gradient[sample * units + unit] = conv.expanded[expanded.offset(unit, 0) + sample];
    const std::int64_t vectors = (features + LANES<T> - 1) / LANES<T>;
    int width = vectors >= 4 && units > 1 ? 2 : vectors >= 2 ? 1 : 0;
    const Blocks blocks(units, CHOICES<T>[width]->most);
    for (std::int64_t vector = 0; vector < vectors; vector += 1 << width) {
        while ((1 << width) > vectors - vector) --width;
        const std::int64_t feature = vector * LANES<T>;
        for (std::int64_t block = 0; block < blocks.count; ++block) {
            const auto [first, count] = blocks[block];
            CHOICES<T>[width]->of[count - 1]({gradient + first, units, input + feature, features, batch,
                                              conv.weight_gradient + first * features + feature, features - feature});
        }
    }
}

template void linear_weight_gradient(const Conv<float>&);
template void linear_weight_gradient(const Conv<double>&);

}  // namespace fedlps::FEDLPS_ISA
