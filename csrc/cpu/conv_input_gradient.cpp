#include "cpu/plain_tiles.h"

namespace fedlps::FEDLPS_ISA {
namespace {

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
    const T* weights = conv.packed;
    if (area == 1) weights = conv.weight;  // transposed, it is the same
    for (std::int64_t row = 0; area > 1 && row < conv.rows; ++row)
        transpose(conv.weight + row * in.channels * area, in.channels, area, conv.packed + row * in.channels * area);

    for (std::int64_t phase = 0; phase < in.phases; ++phase) {
        // the columns of this phase that are no halo
        const std::int64_t start = -floor_of(phase - in.padding, in.phases) * batch;
        const std::int64_t end = (floor_of(in.padding + in.width - 1 - phase, in.phases) + 1) * batch;
        for (std::int64_t position = start; position < end;) {
            const std::int64_t vectors = (end - position + LANES<T> - 1) / LANES<T>;
            const int width = plain_width<T>(vectors, in.channels);
            const std::int64_t lanes = LANES<T> << width;
            const std::int64_t next = position + lanes < end ? position + lanes : end;
            Tap taps[MAX_TAPS];
            const std::int64_t tap_count = taps_of(conv, expanded, phase, position, next, taps);
            const Tiles<PlainTile<T>>& tiles = plain_tiles<T>(width);
            const Blocks blocks(in.channels, tiles.most);
            for (std::int64_t y = 0; y < in.height; ++y) {
                Line lines[MAX_TAPS];
                const std::int64_t line_count = lines_of(conv, expanded, y, lines);
                const Walk walk{conv.rows, expanded.channel_stride, in.channels * area, lines, line_count, taps, tap_count};
                for (std::int64_t block = 0; block < blocks.count; ++block) {
                    const auto [first, channels] = blocks[block];
                    T* result = conv.input_gradient + in.row(first, y) + phase * in.phase_stride() + position;
                    const T* gradient = conv.expanded + expanded.offset(0, 0) + position;
                    tiles.of[channels - 1](
                        {walk, gradient, weights + first, result, in.channel_stride(), next - position});
                }
            }
            position = next;
        }
    }
}

template void conv_input_gradient(const Conv<float>&);
template void conv_input_gradient(const Conv<double>&);

}  // namespace fedlps::FEDLPS_ISA
