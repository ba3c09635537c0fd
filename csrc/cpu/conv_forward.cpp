#include <utility>

#include "cpu/conv.h"
#include "cpu/tile.h"

namespace fedlps::FEDLPS_ISA {
namespace {

// The columns of one pooled output row that a tile covers, and where its rows go.
template <class T>
struct Spot {
    const Conv<T>& conv;
    const Walk& walk;
    std::int64_t first_row;   // of the tile
    std::int64_t position;    // (column, sample), flat
    const T* input;
    T* values;                // line buffer of the first row
    std::int64_t pitch;       // between the rows' line buffers
    T* codes;                 // of the first row, null: none
    std::int64_t code_pitch;
};

template <class T, int POOL, int VECTORS>
[[gnu::always_inline]] inline void finish(const Spot<T>& at, int row, const Vector<T>* sums, Vector<T> bias) {
    const Conv<T>& conv = at.conv;
    const std::int64_t last = conv.width * conv.in.batch - at.position;
#pragma GCC unroll 8
    for (int vector = 0; vector < VECTORS; ++vector) {
        Output<T> output{sums[vector], {}};
        if constexpr (POOL == 2)
            output = largest_of<T>(sums[vector], sums[VECTORS + vector], sums[2 * VECTORS + vector],
                                   sums[3 * VECTORS + vector]);
        output = finished(conv, bias, output);
        store(at.values + row * at.pitch + vector * LANES<T>, output.value);
        if (at.codes)
            store_first(at.codes + row * at.code_pitch + vector * LANES<T>, output.code, last - vector * LANES<T>);
    }
}

template <class T, int ROWS, int POOL, int VECTORS>
void tile(const Spot<T>& at) {
    const Conv<T>& conv = at.conv;
    Vector<T> sums[ROWS][POOL * POOL * VECTORS] = {};
    accumulate<T, ROWS, POOL, VECTORS>(sums, at.input, conv.packed + at.first_row, at.walk);
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; ++row) {
        const Vector<T> bias = conv.bias ? broadcast(conv.bias[at.first_row + row]) : Vector<T>{};
        finish<T, POOL, VECTORS>(at, row, sums[row], bias);
    }
}

template <class T>
using Tile = void (*)(const Spot<T>&);

template <class T, int POOL, int VECTORS, int... ROWS>
constexpr auto tiles_of(std::integer_sequence<int, ROWS...>) {
    return Tiles<Tile<T>>{{tile<T, ROWS + 1, POOL, VECTORS>...}, sizeof...(ROWS)};
}
template <class T, int POOL, int VECTORS>
constexpr auto TILES = tiles_of<T, POOL, VECTORS>(std::make_integer_sequence<int, MAX_ROWS<POOL, VECTORS>>());

// By how many vectors lie side by side in a tile: 1, 2, 4.
template <class T>
constexpr const Tiles<Tile<T>>* CHOICES[2][3] = {{&TILES<T, 1, 1>, &TILES<T, 1, 2>, &TILES<T, 1, 4>},
                                                 {&TILES<T, 2, 1>, &TILES<T, 2, 2>, nullptr}};

}  // namespace

template <class T>
void conv_forward(const Conv<T>& conv) {
    const Image& in = conv.in;
    const std::int64_t area = conv.kernel * conv.kernel, samples = conv.width * in.batch;
    const std::int64_t vectors = (samples + LANES<T> - 1) / LANES<T>;
    transpose(conv.weight, conv.rows, in.channels * area, conv.packed);

    Tap taps[MAX_TAPS];
    for (std::int64_t tap = 0; tap < area; ++tap) {
        const std::int64_t row = tap / conv.kernel * in.row_stride(), column = tap % conv.kernel;
        taps[tap] = {{row + in.column(column), row + in.column(column + conv.stride)}, tap * conv.rows};
    }
    const Walk walk{in.channels, in.channel_stride(), area * conv.rows, conv.stride * in.row_stride(), taps, area};

    // Few rows: more vectors side by side, so that enough sums are under way at once.
    const int pooled = conv.pool == 2;
    int widest = 2;
    while (widest > 0 && (!CHOICES<T>[pooled][widest] || (1 << widest) > vectors ||
                          (pooled && conv.rows > CHOICES<T>[pooled][widest]->most)))
        --widest;
    const Blocks blocks(conv.rows, CHOICES<T>[pooled][widest]->most);
    const std::int64_t pitch = line_pitch(conv);
    const std::int64_t code_pitch = conv.height * samples;
    for (std::int64_t y = 0; y < conv.height; ++y) {
        const T* input = conv.input + y * conv.stride * conv.pool * in.row_stride();
        int width = widest;
        // all rows on the same inputs, while these are in the first cache
        for (std::int64_t vector = 0; vector < vectors; vector += 1 << width) {
            while ((1 << width) > vectors - vector) --width;
            const std::int64_t position = vector * LANES<T>;
            for (std::int64_t block = 0; block < blocks.count; ++block) {
                const auto [first, rows] = blocks[block];
                T* codes = conv.codes ? conv.codes + first * code_pitch + y * samples + position : nullptr;
                CHOICES<T>[pooled][width]->of[rows - 1]({conv, walk, first, position, input + position,
                                                         conv.line + first * pitch + position, pitch, codes, code_pitch});
            }
        }
        for (std::int64_t row = 0; row < conv.rows; ++row)
            write_line(conv.targets, row, y, conv.width, conv.line + row * pitch);
    }
}

template void conv_forward(const Conv<float>&);
template void conv_forward(const Conv<double>&);

}  // namespace fedlps::FEDLPS_ISA
