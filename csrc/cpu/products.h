// Products of small matrices.
#pragma once

#include "cpu/vector.h"

namespace fedlps::FEDLPS_ISA {

// result[row][lane] (+)= sum over k of scalars[k][row] * vectors[k][lane]. Whole vectors are read and written.
template <class T>
struct Product {
    const T* scalars;
    std::int64_t scalar_pitch;  // from k to k; turned: from row to row
    const T* vectors;
    std::int64_t vector_pitch;
    T* result;
    std::int64_t pitch;
    std::int64_t rows, lanes, depth;
    bool add;             // to what the result holds
    bool turned = false;  // scalars[row][k]
};

// Rows of memory that are read soon, to be fetched into the second cache while products keep the processor busy.
template <class T>
struct Ahead {
    static constexpr std::int64_t LINE = 64 / sizeof(T);
    const T* from;
    const T* also;  // the same rows of another vector; null: none
    std::int64_t rows, run, pitch;
    std::int64_t entry = 0;

    // The lines to fetch during each of so many products.
    [[gnu::always_inline]] std::int64_t share(std::int64_t products) const { return rows * (run / LINE + 1) / products + 1; }

    [[gnu::always_inline]] void fetch(std::int64_t lines) {
        for (; lines > 0 && rows > 0; --lines) {
            __builtin_prefetch(from + entry, 0, 2);
            if (also) __builtin_prefetch(also + entry, 0, 2);
            entry += LINE;
            if (entry < run) continue;
            entry = 0, --rows, from += pitch;
            if (also) also += pitch;
        }
    }
};

// lines: to be fetched meanwhile; without any, ahead is not used.
template <class T>
void multiply(const Product<T>& product, Ahead<T>& ahead, std::int64_t lines);

}  // namespace fedlps::FEDLPS_ISA
