#include <utility>

#include "cpu/conv.h"
#include "cpu/tile.h"

namespace fedlps::FEDLPS_ISA {
namespace {

template <class T>
struct Spot {
    const Walk& walk;
    const T* gradient;
    const T* weights;
    T* result;  // of the first channel
    std::int64_t pitch;
    std::int64_t lanes;  // wanted, from the first vector's first
};

template <class T, int CHANNELS, int VECTORS>
void tile(const Spot<T>& at) {
    Vector<T> sums[CHANNELS][VECTORS] = {};
    accumulate<T, CHANNELS, 1, VECTORS>(sums, at.gradient, at.weights, at.walk);
#pragma GCC unroll 16
    for (int channel = 0; channel < CHANNELS; ++channel)
#pragma GCC unroll 8
        for (int vector = 0; vector < VECTORS; ++vector)
            store_first(at.result + channel * at.pitch + vector * LANES<T>, sums[channel][vector],
                        at.lanes - vector * LANES<T>);
}

template <class T>
using Tile = void (*)(const Spot<T>&);

template <class T, int VECTORS, int... CHANNELS>
constexpr auto tiles_of(std::integer_sequence<int, CHANNELS...>) {
    return Tiles<Tile<T>>{{tile<T, CHANNELS + 1, VECTORS>...}, sizeof...(CHANNELS)};
}
template <class T, int VECTORS>
constexpr auto TILES = tiles_of<T, VECTORS>(std::make_integer_sequence<int, MAX_ROWS<1, VECTORS>>());
template <class T>
constexpr const Tiles<Tile<T>>* CHOICES[4] = {&TILES<T, 1>, &TILES<T, 2>, &TILES<T, 4>, &TILES<T, 8>};

// How many vectors side by side, as a power of two: many on few channels, so that enough sums are under way at once;
// few on many, since these read less.
template <class T>
int width_of(std::int64_t vectors, std::int64_t channels) {
    if (vectors >= 6 && channels <= CHOICES<T>[3]->most) return 3;
    if (vectors >= 3 && channels <= CHOICES<T>[2]->most) return 2;
    return vectors >= 2;
}

constexpr std::int64_t floor_of(std::int64_t value, std::int64_t divisor) {
    return value >= 0 ? value / divisor : -((-value + divisor - 1) / divisor);
}

// The kernel columns through which columns [first, last) of a phase, counted in (column, sample), see any output.
template <class T>
std::int64_t taps_of(const Conv<T>& conv, const Expanded& expanded, std::int64_t phase, std::int64_t first,
                     std::int64_t last, Tap* taps) {
    const std::int64_t batch = conv.in.batch;
    std::int64_t count = 0;
    for (std::int64_t column = 0; column < conv.kernel; ++column) {
        if ((phase - column) % conv.stride != 0) continue;
        const std::int64_t step = (phase - column) / conv.stride;
        const std::int64_t shift = floor_of(step, conv.pool);
        if (last <= -shift * batch || first >= (conv.width - shift) * batch) continue;
        const std::int64_t offset = (step - shift * conv.pool) * expanded.phase_stride + shift * batch;
        taps[count++] = {{offset, offset}, column * conv.in.channels};
    }
    return count;
}

// The kernel rows through which an input row sees any output.
template <class T>
std::int64_t lines_of(const Conv<T>& conv, const Expanded& expanded, std::int64_t y, Line* lines) {
    std::int64_t count = 0;
    for (std::int64_t line = 0; line < conv.kernel; ++line) {
        const std::int64_t above = y + conv.in.padding - line;
        if (above < 0 || (conv.stride > 1 && above % conv.stride != 0)) continue;
        const std::int64_t row = conv.stride > 1 ? above / conv.stride : above;
        if (row >= conv.height * conv.pool) continue;
        const std::int64_t offset = row * expanded.row_stride;
        lines[count++] = {{offset, offset}, line * conv.kernel * conv.in.channels};
    }
    return count;
}

}  // namespace

template <class T>
void conv_input_gradient(const Conv<T>& conv) {
    const Image& in = conv.in;
    const std::int64_t area = conv.kernel * conv.kernel, batch = in.batch;
    const Expanded expanded(conv, conv.height);
    for (std::int64_t row = 0; row < conv.rows; ++row)
        transpose(conv.weight + row * in.channels * area, in.channels, area, conv.packed + row * in.channels * area);

    for (std::int64_t phase = 0; phase < in.phases; ++phase) {
        // the columns of this phase that are no halo
        const std::int64_t start = -floor_of(phase - in.padding, in.phases) * batch;
        const std::int64_t end = (floor_of(in.padding + in.width - 1 - phase, in.phases) + 1) * batch;
        for (std::int64_t position = start; position < end;) {
            const std::int64_t vectors = (end - position + LANES<T> - 1) / LANES<T>;
            const int width = width_of<T>(vectors, in.channels);
            const std::int64_t lanes = LANES<T> << width;
            const std::int64_t next = position + lanes < end ? position + lanes : end;
            Tap taps[MAX_TAPS];
            const std::int64_t tap_count = taps_of(conv, expanded, phase, position, next, taps);
            const Blocks blocks(in.channels, CHOICES<T>[width]->most);
            for (std::int64_t y = 0; y < in.height; ++y) {
                Line lines[MAX_TAPS];
                const std::int64_t line_count = lines_of(conv, expanded, y, lines);
                const Walk walk{conv.rows, expanded.channel_stride, in.channels * area, lines, line_count, taps, tap_count};
                for (std::int64_t block = 0; block < blocks.count; ++block) {
                    const auto [first, channels] = blocks[block];
                    T* result = conv.input_gradient + in.row(first, y) + phase * in.phase_stride() + position;
                    const T* gradient = conv.expanded + expanded.offset(0, 0) + position;
                    CHOICES<T>[width]->of[channels - 1](
                        {walk, gradient, conv.packed + first, result, in.channel_stride(), next - position});
                }
            }
            position = next;
        }
    }
}

template void conv_input_gradient(const Conv<float>&);
template void conv_input_gradient(const Conv<double>&);

}  // namespace fedlps::FEDLPS_ISA
