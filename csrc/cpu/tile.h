// The register tile that every convolution and linear layer is made of.
#pragma once

#include "cpu/declarations.h"
#include "cpu/vector.h"

namespace fedlps::FEDLPS_ISA {

// One entry of the kernel: where its inputs begin, for each column of the pooling window, and its weights.
struct Tap {
    std::int64_t offset[2];
    std::int64_t weight;
};

// What a tile sums over: channels x taps.
struct Walk {
    std::int64_t channels, channel_stride, channel_weights;
    std::int64_t below;  // from a window's upper row to its lower one
    const Tap* taps;
    std::int64_t tap_count;
};

inline constexpr int MAX_SIDE = 32;  // of a kernel, and the largest stride; more is refused before it comes here
inline constexpr int MAX_TAPS = MAX_SIDE * MAX_SIDE;

// sums[row][window position, vector] += weight * input. Weights of neighbouring rows lie side by side.
template <class T, int ROWS, int POOL, int VECTORS>
[[gnu::always_inline]] inline void accumulate(Vector<T> (&sums)[ROWS][POOL * POOL * VECTORS], const T* input,
                                              const T* weights, const Walk& walk) {
    for (std::int64_t channel = 0; channel < walk.channels; ++channel) {
        const T* upper = input;
        const T* lower = input + walk.below;
        opaque(upper);
        opaque(lower);
        for (std::int64_t tap = 0; tap < walk.tap_count; ++tap) {
            const Tap& at = walk.taps[tap];
            Vector<T> inputs[POOL * POOL * VECTORS];
#pragma GCC unroll 8
            for (int vector = 0; vector < VECTORS; ++vector)
#pragma GCC unroll 2
                for (int column = 0; column < POOL; ++column) {
                    inputs[column * VECTORS + vector] = load(upper + at.offset[column] + vector * LANES<T>);
                    if constexpr (POOL == 2)
                        inputs[(2 + column) * VECTORS + vector] = load(lower + at.offset[column] + vector * LANES<T>);
                }
            const T* weight = weights + at.weight;
#pragma GCC unroll 16
            for (int row = 0; row < ROWS; ++row) {
                const Vector<T> factor = broadcast(weight[row]);
#pragma GCC unroll 16
                for (int each = 0; each < POOL * POOL * VECTORS; ++each) sums[row][each] += factor * inputs[each];
            }
        }
        input += walk.channel_stride;
        weights += walk.channel_weights;
    }
}

// The most rows whose sums, with their inputs and a weight, fit the registers.
template <int POOL, int VECTORS>
inline constexpr int MAX_ROWS = [] {
    const int each = POOL * POOL * VECTORS;
    const int rows = (REGISTERS - 2 - each) / each;
    return rows > 12 ? 12 : rows;
}();

}  // namespace fedlps::FEDLPS_ISA
