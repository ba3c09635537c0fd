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
    T* values;                // of the first row, a line buffer's or its reader's
    std::int64_t pitch;       // between the rows
    T* codes;                 // of the first row, null: none
    std::int64_t code_pitch;
};

template <class T, int POOL, int VECTORS, bool CODED>
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
        store_first(at.values + row * at.pitch + vector * LANES<T>, output.value, last - vector * LANES<T>);
        if constexpr (CODED)
            store_first(at.codes + row * at.code_pitch + vector * LANES<T>, output.code, last - vector * LANES<T>);
    }
}

template <class T, int ROWS, int POOL, int VECTORS>
void tile(const Spot<T>& at) {
    const Conv<T>& conv = at.conv;
    Vector<T> sums[ROWS][POOL * POOL * VECTORS] = {};
    accumulate<T, ROWS, POOL, VECTORS>(sums, at.input, conv.packed + at.first_row, at.walk);
    const auto finish_rows = [&]<bool CODED>() __attribute__((always_inline)) {
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; ++row) {
            const Vector<T> bias = conv.bias ? broadcast(conv.bias[at.first_row + row]) : Vector<T>{};
            finish<T, POOL, VECTORS, CODED>(at, row, sums[row], bias);
        }
    };
    if (at.codes)
        finish_rows.template operator()<true>();
    else
        finish_rows.template operator()<false>();
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
    // Straight to a single reader, where no tile lies across columns that are apart there.
    const Target<T>& reader = conv.targets.front();
    const Image image = reader.image;
    const bool together = image.phases == 1;
    const bool straight = conv.targets.size() == 1 && (together || in.batch % (LANES<T> << widest) == 0);
    const std::int64_t pitch = straight ? image.channel_stride() : line_pitch(conv);
    const std::int64_t code_pitch = conv.height * samples;
    for (std::int64_t y = 0; y < conv.height; ++y) {
        const T* input = conv.input + y * conv.stride * conv.pool * in.row_stride();
        T* values = straight ? reader.values + image.row(0, y) : conv.line;
        Columns column(image, image.padding);
        std::int64_t sample = 0;
        int width = widest;
        // all rows on the same inputs, while these are in the first cache
        for (std::int64_t vector = 0; vector < vectors; vector += 1 << width) {
            while ((1 << width) > vectors - vector) --width;
            const std::int64_t position = vector * LANES<T>;
            const std::int64_t to = !straight ? position : together ? column.offset + position : column.offset + sample;
            if ((sample += LANES<T> << width) == in.batch && !together) {
                sample = 0;
                column.next();
            }
            for (std::int64_t block = 0; block < blocks.count; ++block) {
                const auto [first, rows] = blocks[block];
                T* codes = conv.codes ? conv.codes + first * code_pitch + y * samples + position : nullptr;
                CHOICES<T>[pooled][width]->of[rows - 1]({conv, walk, first, position, input + position,
                                                         values + first * pitch + to, pitch, codes, code_pitch});
            }
        }
        for (std::int64_t row = 0; !straight && row < conv.rows; ++row)
            write_line(conv.targets, row, y, conv.width, conv.line + row * pitch);
    }
}

template void conv_forward(const Conv<float>&);
template void conv_forward(const Conv<double>&);

}  // namespace fedlps::FEDLPS_ISA
