#include "cpu/plain_tiles.h"

namespace fedlps::FEDLPS_ISA {
namespace {

constexpr std::int64_t floor_of(std::int64_t value, std::int64_t divisor) {
    return value >= 0 ? value / divisor : -((-value + divisor - 1) / divisor);
}

// The entries of the kernel through which columns [first, last) of a phase, counted in (column, sample), see any output.
// An input row sees outputs through every stride-th row of the kernel: those that serve the same rows lie together.
struct Sight {
    Tap taps[MAX_TAPS];
    std::int64_t columns = 0;  // taps per row of the kernel

    template <class T>
    Sight(const Conv<T>& conv, const Expanded& expanded, std::int64_t phase, std::int64_t first, std::int64_t last) {
        const std::int64_t batch = conv.in.batch;
        Tap seen[MAX_SIDE];
        for (std::int64_t column = 0; column < conv.kernel; ++column) {
            if ((phase - column) % conv.stride != 0) continue;
            const std::int64_t step = (phase - column) / conv.stride;
            const std::int64_t shift = floor_of(step, conv.pool);
            if (last <= -shift * batch || first >= (conv.width - shift) * batch) continue;
            const std::int64_t offset = (step - shift * conv.pool) * expanded.phase_stride + shift * batch;
            seen[columns++] = {{offset, offset}, column * conv.in.channels};
        }
        Tap* tap = taps;
        for (std::int64_t start = 0; start < conv.stride; ++start)
            for (std::int64_t line = start; line < conv.kernel; line += conv.stride)
                for (std::int64_t column = 0; column < columns; ++column, ++tap) {
                    *tap = seen[column];
                    tap->offset[0] -= line / conv.stride * expanded.row_stride;
                    tap->weight += line * conv.kernel * conv.in.channels;
                }
    }
};

// Rows of the kernel from one on, a stride apart.
template <class T>
std::int64_t lines(const Conv<T>& conv, std::int64_t start) {
    return conv.kernel > start ? (conv.kernel - start + conv.stride - 1) / conv.stride : 0;
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
            const Sight sight(conv, expanded, phase, position, next);
            const Tiles<PlainTile<T>>& tiles = plain_tiles<T>(width);
            const Blocks blocks(in.channels, tiles.most);
            for (std::int64_t y = 0; y < in.height; ++y) {
                const std::int64_t start = (y + in.padding) % conv.stride, row = (y + in.padding) / conv.stride;
                std::int64_t before = 0;  // rows of the kernel that serve other input rows
                for (std::int64_t other = 0; other < start; ++other) before += lines(conv, other);
                const std::int64_t above = row - conv.height * conv.pool + 1;
                const std::int64_t from = above > 0 ? above : 0;
                const std::int64_t to = row + 1 < lines(conv, start) ? row + 1 : lines(conv, start);
                const Walk walk{conv.rows, expanded.channel_stride, in.channels * area, 0,
                                sight.taps + (before + from) * sight.columns, (to > from ? to - from : 0) * sight.columns};
                const T* gradient = conv.expanded + expanded.offset(0, row) + position;
                for (std::int64_t block = 0; block < blocks.count; ++block) {
                    const auto [first, channels] = blocks[block];
                    T* result = conv.input_gradient + in.row(first, y) + phase * in.phase_stride() + position;
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
