// Tiles whose sums are the result: those of the gradients.
#pragma once

#include "cpu/conv.h"
#include "cpu/tile.h"

namespace fedlps::FEDLPS_ISA {

template <class T>
struct PlainSpot {
    const Walk& walk;
    const T* input;
    const T* weights;
    T* result;           // of the first row
    std::int64_t pitch;  // between rows
    std::int64_t lanes;  // wanted, from the first vector's first
};

template <class T>
using PlainTile = void (*)(const PlainSpot<T>&);

// Tiles of 1 << width vectors side by side, width up to 3; of none, where these do not fit the registers.
template <class T>
const Tiles<PlainTile<T>>& plain_tiles(int width);

// The width for so many vectors and rows: many vectors on few rows, so that enough sums are under way at once; few on
// many, since these read less.
template <class T>
int plain_width(std::int64_t vectors, std::int64_t rows) {
    if (vectors >= 6 && rows <= plain_tiles<T>(3).most) return 3;
    if (vectors >= 3 && rows <= plain_tiles<T>(2).most) return 2;
    return vectors >= 2;
}

}  // namespace fedlps::FEDLPS_ISA
