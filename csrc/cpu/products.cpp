#include "cpu/products.h"

#include <utility>

#include "cpu/conv.h"
#include "cpu/tile.h"

namespace fedlps::FEDLPS_ISA {
namespace {

template <class T, int ROWS, int VECTORS>
void tile(const Product<T>& product) {
    const Product<T> at = product;  // a copy of its own: no result can alias it
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

// A length divided into parts of nearly one size, without a division for each.
struct Parts {
    std::int64_t count, size, longer;  // the first `longer` have one more

    Parts(std::int64_t length, std::int64_t most)
        : count((length + most - 1) / most), size(length / count), longer(length % count) {}
    std::int64_t operator[](std::int64_t part) const { return size + (part < longer); }
};

}  // namespace

template <class T>
void multiply(const Product<T>& product, Ahead<T>& ahead, std::int64_t lines) {
    const Parts depths(product.depth, DEEPEST), widths((product.lanes + LANES<T> - 1) / LANES<T>, WIDEST);
    Product<T> at = product;
    for (std::int64_t deep = 0, k = 0; deep < depths.count; k += depths[deep++]) {
        at.depth = depths[deep];
        at.add = product.add || k > 0;
        for (std::int64_t column = 0, lane = 0; column < widths.count; lane += widths[column++] * LANES<T>) {
            const Tiles<Tile<T>>& tiles = *CHOICES<T>[widths[column] - 1];
            const Parts blocks(product.rows, tiles.most);
            const std::int64_t some = lines ? lines / (depths.count * widths.count * blocks.count) + 1 : 0;
            at.vectors = product.vectors + k * product.vector_pitch + lane;
            at.scalars = product.scalars + k * product.scalar_pitch;
            at.result = product.result + lane;
            for (std::int64_t block = 0; block < blocks.count; ++block) {
                tiles.of[blocks[block] - 1](at);
                ahead.fetch(some);
                at.scalars += blocks[block];
                at.result += blocks[block] * product.pitch;
            }
        }
    }
}

template void multiply(const Product<float>&, Ahead<float>&, std::int64_t);
template void multiply(const Product<double>&, Ahead<double>&, std::int64_t);

}  // namespace fedlps::FEDLPS_ISA
