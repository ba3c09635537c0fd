#include "cpu/products.h"

#include <utility>

#include "cpu/conv.h"
#include "cpu/tile.h"

namespace fedlps::FEDLPS_ISA {
namespace {

template <class T, int ROWS, int VECTORS, bool TURNED>
void tile(const Product<T>& product) {
    const Product<T> at = product;  // a copy of its own: no result can alias it
    Vector<T> sums[ROWS][VECTORS] = {};
    // Row by row anew before and behind the loop: within, the registers are wanted for the scalars' rows.
    T* result = at.result;
    if (at.add)
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; ++row, result += at.pitch) {
            opaque(result);
#pragma GCC unroll 4
            for (int vector = 0; vector < VECTORS; ++vector) sums[row][vector] = load(result + vector * LANES<T>);
        }
    const std::int64_t row_step = TURNED ? at.scalar_pitch : 1, step = TURNED ? 1 : at.scalar_pitch;
    const T* scalars = at.scalars;
    const T* vectors = at.vectors;
    for (std::int64_t k = 0; k < at.depth; ++k) {
        Vector<T> each[VECTORS];
#pragma GCC unroll 4
        for (int vector = 0; vector < VECTORS; ++vector) each[vector] = load(vectors + vector * LANES<T>);
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; ++row) {
            const Vector<T> factor = broadcast(scalars[row * row_step]);
#pragma GCC unroll 4
            for (int vector = 0; vector < VECTORS; ++vector) sums[row][vector] += factor * each[vector];
        }
        scalars += step;
        vectors += at.vector_pitch;
    }
    result = at.result;
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; ++row, result += at.pitch) {
        opaque(result);
#pragma GCC unroll 4
        for (int vector = 0; vector < VECTORS; ++vector) store(result + vector * LANES<T>, sums[row][vector]);
    }
}

template <class T>
using Tile = void (*)(const Product<T>&);

template <class T, int VECTORS, bool TURNED, int... ROWS>
constexpr auto tiles_of(std::integer_sequence<int, ROWS...>) {
    return Tiles<Tile<T>>{{tile<T, ROWS + 1, VECTORS, TURNED>...}, sizeof...(ROWS)};
}
template <class T, int VECTORS, bool TURNED>
constexpr auto TILES = tiles_of<T, VECTORS, TURNED>(std::make_integer_sequence<int, MAX_ROWS<1, VECTORS>>());
template <class T, bool TURNED>
constexpr const Tiles<Tile<T>>* CHOICES[] = {&TILES<T, 1, TURNED>, &TILES<T, 2, TURNED>, &TILES<T, 3, TURNED>,
                                             &TILES<T, 4, TURNED>};

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
            const Tiles<Tile<T>>& tiles = *(product.turned ? CHOICES<T, true> : CHOICES<T, false>)[widths[column] - 1];
            const Parts blocks(product.rows, tiles.most);
            const std::int64_t some = lines ? lines / (depths.count * widths.count * blocks.count) + 1 : 0;
            at.vectors = product.vectors + k * product.vector_pitch + lane;
            at.scalars = product.scalars + k * (product.turned ? 1 : product.scalar_pitch);
            at.result = product.result + lane;
            for (std::int64_t block = 0; block < blocks.count; ++block) {
                tiles.of[blocks[block] - 1](at);
                ahead.fetch(some);
                at.scalars += blocks[block] * (product.turned ? product.scalar_pitch : 1);
                at.result += blocks[block] * product.pitch;
            }
        }
    }
}

template void multiply(const Product<float>&, Ahead<float>&, std::int64_t);
template void multiply(const Product<double>&, Ahead<double>&, std::int64_t);

}  // namespace fedlps::FEDLPS_ISA
