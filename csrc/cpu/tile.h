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
inline constexpr std::int64_t MANY_CHANNELS = 8;

// sums[row][window position, vector] += weight * input, for one tap of one channel. Weights of neighbouring rows lie side
// by side.
template <class T, int ROWS, int POOL, int VECTORS>
[[gnu::always_inline]] inline void add_products(Vector<T> (&sums)[ROWS][POOL * POOL * VECTORS], const T* left,
                                                const T* right, std::int64_t below, const T* weights) {
    Vector<T> inputs[POOL * POOL * VECTORS];
#pragma GCC unroll 8
    for (int vector = 0; vector < VECTORS; ++vector) {
        inputs[vector] = load(left + vector * LANES<T>);
        if constexpr (POOL == 2) {
            inputs[VECTORS + vector] = load(right + vector * LANES<T>);
            inputs[2 * VECTORS + vector] = load(left + below + vector * LANES<T>);
            inputs[3 * VECTORS + vector] = load(right + below + vector * LANES<T>);
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; ++row) {
        const Vector<T> factor = broadcast(weights[row]);
#pragma GCC unroll 16
        for (int each = 0; each < POOL * POOL * VECTORS; ++each) sums[row][each] += factor * inputs[each];
    }
}

// All of the walk. What is many runs innermost: a short loop's end is guessed wrong again and again.
template <class T, int ROWS, int POOL, int VECTORS>
[[gnu::always_inline]] inline void accumulate(Vector<T> (&sums)[ROWS][POOL * POOL * VECTORS], const T* input,
                                              const T* weights, const Walk& walk) {
    const Tap* taps = walk.taps;
    const std::int64_t tap_count = walk.tap_count, channels = walk.channels, below = walk.below;
    if (channels >= MANY_CHANNELS) {
        for (std::int64_t tap = 0; tap < tap_count; ++tap) {
            const T* left = input + taps[tap].offset[0];
            const T* right = input + taps[tap].offset[1];
            const T* weight = weights + taps[tap].weight;
            opaque(left);
            opaque(right);
            for (std::int64_t channel = 0; channel < channels; ++channel) {
                add_products<T, ROWS, POOL, VECTORS>(sums, left, right, below, weight);
                left += walk.channel_stride;
                right += walk.channel_stride;
                weight += walk.channel_weights;
            }
        }
    } else {
        for (std::int64_t channel = 0; channel < channels; ++channel) {
            for (std::int64_t tap = 0; tap < tap_count; ++tap)
                add_products<T, ROWS, POOL, VECTORS>(sums, input + taps[tap].offset[0], input + taps[tap].offset[1], below,
                                                     weights + taps[tap].weight);
            input += walk.channel_stride;
            weights += walk.channel_weights;
        }
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
