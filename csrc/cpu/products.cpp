#include "cpu/products.h"

#include <utility>

#include "cpu/conv.h"
#include "cpu/tile.h"

namespace fedlps::FEDLPS_ISA {
namespace {

template <class T, int ROWS, int VECTORS>
void tile(const Product<T>& at) {
    Vector<T> sums[ROWS][VECTORS] = {};
    if (at.add)
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; ++row)
#pragma GCC unroll 4
            for (int vector = 0; vector < VECTORS; ++vector)
                sums[row][vector] = load(at.result + row * at.pitch + vector * LANES<T>);
    const T* scalars = at.scalars;
    const T* vectors = at.vectors;
    for (std::int64_t k = 0; k < at.depth; ++k) {
        Vector<T> each[VECTORS];
#pragma GCC unroll 4
        for (int vector = 0; vector < VECTORS; ++vector) each[vector] = load(vectors + vector * LANES<T>);
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; ++row) {
            const Vector<T> factor = broadcast(scalars[row]);
#pragma GCC unroll 4
            for (int vector = 0; vector < VECTORS; ++vector) sums[row][vector] += factor * each[vector];
        }
        scalars += at.scalar_pitch;
        vectors += at.vector_pitch;
    }
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; ++row)
#pragma GCC unroll 4
        for (int vector = 0; vector < VECTORS; ++vector)
            store(at.result + row * at.pitch + vector * LANES<T>, sums[row][vector]);
}

template <class T>
using Tile = void (*)(const Product<T>&);

template <class T, int VECTORS, int... ROWS>
constexpr auto tiles_of(std::integer_sequence<int, ROWS...>) {
    return Tiles<Tile<T>>{{tile<T, ROWS + 1, VECTORS>...}, sizeof...(ROWS)};
}
template <class T, int VECTORS>
constexpr auto TILES = tiles_of<T, VECTORS>(std::make_integer_sequence<int, MAX_ROWS<1, VECTORS>>());
template <class T>
constexpr const Tiles<Tile<T>>* CHOICES[] = {&TILES<T, 1>, &TILES<T, 2>, &TILES<T, 3>, &TILES<T, 4>};

constexpr std::int64_t WIDEST = REGISTERS == 32 ? 4 : 2;
// So that the operands of one tile stay in the first cache.
constexpr std::int64_t DEEPEST = 64;

}  // namespace

template <class T>
void multiply(const Product<T>& product) {
    const Blocks parts(product.depth, DEEPEST);
    const Blocks columns((product.lanes + LANES<T> - 1) / LANES<T>, WIDEST);
    Product<T> at = product;
    for (std::int64_t part = 0; part < parts.count; ++part) {
        const auto [k, depth] = parts[part];
        at.depth = depth;
        at.add = product.add || part > 0;
        for (std::int64_t column = 0; column < columns.count; ++column) {
            const auto [vector, vectors] = columns[column];
            const Tiles<Tile<T>>& tiles = *CHOICES<T>[vectors - 1];
            const Blocks blocks(product.rows, tiles.most);
            at.vectors = product.vectors + k * product.vector_pitch + vector * LANES<T>;
            for (std::int64_t block = 0; block < blocks.count; ++block) {
                const auto [first, rows] = blocks[block];
                at.scalars = product.scalars + k * product.scalar_pitch + first;
                at.result = product.result + first * product.pitch + vector * LANES<T>;
                tiles.of[rows - 1](at);
            }
        }
    }
}

template void multiply(const Product<float>&);
template void multiply(const Product<double>&);

}  // namespace fedlps::FEDLPS_ISA
