#include <utility>

#include "cpu/plain_tiles.h"

namespace fedlps::FEDLPS_ISA {
namespace {

template <class T, int ROWS, int VECTORS>
void tile(const PlainSpot<T>& at) {
    Vector<T> sums[ROWS][VECTORS] = {};
    accumulate<T, ROWS, 1, VECTORS>(sums, at.input, at.weights, at.walk);
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; ++row)
#pragma GCC unroll 8
        for (int vector = 0; vector < VECTORS; ++vector)
            store_first(at.result + row * at.pitch + vector * LANES<T>, sums[row][vector], at.lanes - vector * LANES<T>);
}

template <class T, int VECTORS, int... ROWS>
constexpr auto tiles_of(std::integer_sequence<int, ROWS...>) {
    return Tiles<PlainTile<T>>{{tile<T, ROWS + 1, VECTORS>...}, sizeof...(ROWS)};
}
template <class T, int VECTORS>
constexpr auto TILES = tiles_of<T, VECTORS>(std::make_integer_sequence<int, MAX_ROWS<1, VECTORS>>());

}  // namespace

template <class T>
const Tiles<PlainTile<T>>& plain_tiles(int width) {
    static constexpr const Tiles<PlainTile<T>>* CHOICES[] = {&TILES<T, 1>, &TILES<T, 2>, &TILES<T, 4>, &TILES<T, 8>};
    return *CHOICES[width];
}

template const Tiles<PlainTile<float>>& plain_tiles(int);
template const Tiles<PlainTile<double>>& plain_tiles(int);

}  // namespace fedlps::FEDLPS_ISA
