// Products of small matrices.
#pragma once

#include "cpu/vector.h"

namespace fedlps::FEDLPS_ISA {

// result[row][lane] (+)= sum over k of scalars[k][row] * vectors[k][lane]. Whole vectors are read and written.
template <class T>
struct Product {
    const T* scalars;
    std::int64_t scalar_pitch;
    const T* vectors;
    std::int64_t vector_pitch;
    T* result;
    std::int64_t pitch;
    std::int64_t rows, lanes, depth;
    bool add;  // to what the result holds
};

template <class T>
void multiply(const Product<T>& product);

}  // namespace fedlps::FEDLPS_ISA
