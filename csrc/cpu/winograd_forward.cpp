#include "cpu/winograd.h"

namespace fedlps::FEDLPS_ISA {
namespace {

// A block of weights, transformed: [value][channel][row].
template <class Form, class T>
void transform_weights(const Conv<T>& conv, const Tiling& tiling, Range rows, Range channels, T* packed) {
    constexpr int AREA = Form::KERNEL * Form::KERNEL;
    const std::int64_t from_pitch = conv.in.channels * AREA, pitch = Tiling::padded(tiling.row_block);
    const std::int64_t plane = Tiling::weight_plane(tiling.channel_block, tiling.row_block);
    Strip<Form, T> strip;
    for (std::int64_t row = 0; row < rows.count; row += LANES<T>)
        for (std::int64_t channel = 0; channel < channels.count; channel += LANES<T>) {
            const std::int64_t some = least(channels.count - channel, LANES<T>);
            transpose(conv.weight + (rows.first + row) * from_pitch + (channels.first + channel) * AREA, from_pitch,
                      least(rows.count - row, LANES<T>), some * AREA, strip, LANES<T>);
            for (std::int64_t each = 0; each < some; ++each) {
                const T* from = strip + each * AREA * LANES<T>;
                T* to = packed + (channel + each) * pitch + row;
                two_sided<Form::WEIGHT, T>(
                    [&](int y, int x) { return load(from + (y * Form::KERNEL + x) * LANES<T>); },
                    [&](int y, int x, Vector<T> value) { store(to + (y * Form::WEIGHT.ROWS + x) * plane, value); });
            }
        }
}

// What is fused behind the outputs of one row of tiles, [line][lane], and the way to where their readers find them.
template <class Form, class T>
void finish(const Conv<T>& conv, const Tiling& tiling, const Chunk& chunk, std::int64_t channel, std::int64_t row, T* lines) {
    const std::int64_t pitch = tiling.line_pitch(), side = Form::STEP / conv.pool;
    T* finished_lines = conv.pool == 2 ? lines + Form::STEP * Form::STEP * pitch : lines;
    for (std::int64_t line = 0; line < side * side && (conv.pool == 2 || conv.relu); ++line) {
        const T* from = lines + (conv.pool == 2 ? line / side * 2 * Form::STEP + line % side * 2 : line) * pitch;
        T* to = finished_lines + line * pitch;
        T* codes = conv.codes ? code_line(conv, tiling, chunk, channel, row, line) : nullptr;
        for (std::int64_t position = 0; position < chunk.run; position += LANES<T>) {
            Output<T> output{load(from + position), {}};
            if (conv.pool == 2)
                output = largest_of<T>(output.value, load(from + pitch + position),
                                       load(from + Form::STEP * pitch + position),
                                       load(from + (Form::STEP + 1) * pitch + position));
            output = cut_off(conv, output);
            store(to + position, output.value);
            if (codes) store_first(codes + position, output.code, chunk.run - position);
        }
    }
    const Lines written = lines_of(tiling, chunk, side);
    for (std::int64_t y = 0; y < side; ++y)
        write_lines(conv.targets, channel, (chunk.first_row + row) * side + y, written, finished_lines + y * side * pitch);
}

template <class Form, class T>
void forward_chunk(const Conv<T>& conv, const Tiling tiling, const Chunk chunk) {
    const std::int64_t value_plane = tiling.plane(conv.in.channels), sum_plane = tiling.sum_plane(tiling.row_block);
    const std::int64_t weight_pitch = Tiling::padded(tiling.row_block), turned_plane = tiling.turned_plane(tiling.row_block);
    const std::int64_t weight_plane = Tiling::weight_plane(tiling.channel_block, tiling.row_block);
    const std::int64_t lanes = chunk.lanes();
    const Places<Form> places(conv, tiling);
    const bool first_chunk = chunk.first_row == 0 && chunk.first == 0;
    T* sums = conv.partial;
    T* turned_sums = sums + Form::VALUES * sum_plane;
    transform_input<Form>(conv, tiling, chunk);
    for_each_block(conv.rows, tiling.row_block, [&](Range rows) {
        const bool turn = turned<T>(lanes, rows.count);
        for_each_block(conv.in.channels, tiling.channel_block, [&](Range channels) {
            T* packed = conv.packed + tiling.block(rows.first, channels.first);
            if (first_chunk || !tiling.once) transform_weights<Form>(conv, tiling, rows, channels, packed);
            const Block next = behind({rows, channels}, conv.rows, tiling.row_block, conv.in.channels, tiling.channel_block);
            Ahead<T> ahead = ahead_of(conv, next.outer, next.inner);
            const std::int64_t lines = tiling.once ? 0 : ahead.share(Form::VALUES);
            for (int value = 0; value < Form::VALUES; ++value) {
                const T* values = conv.tiles + value * value_plane + channels.first * tiling.pitch;
                const T* weights = packed + value * weight_plane;
                const bool add = channels.first > 0;
                if (turn)
                    multiply<T>({values, tiling.pitch, weights, weight_pitch, turned_sums + value * turned_plane,
                                 weight_pitch, lanes, rows.count, channels.count, add}, ahead, lines);
                else
                    multiply<T>({weights, weight_pitch, values, tiling.pitch, sums + value * sum_plane, tiling.sum_pitch,
                                 rows.count, lanes, channels.count, add}, ahead, lines);
            }
        });
        if (turn)
            for (int sum = 0; sum < Form::VALUES; ++sum)
                transpose(turned_sums + sum * turned_plane, weight_pitch, lanes, rows.count, sums + sum * sum_plane,
                          tiling.sum_pitch);
        for (std::int64_t row = 0; row < rows.count; ++row) {
            const std::int64_t channel = rows.first + row;
            const Vector<T> bias = conv.bias ? broadcast(conv.bias[channel]) : Vector<T>{}, scale = broadcast(conv.scale);
            for (std::int64_t tile_row = 0; tile_row < chunk.rows; ++tile_row) {
                const T* from = sums + row * tiling.sum_pitch + tile_row * chunk.run;
                T* to = (places.straight ? conv.targets.front().values : conv.line) + places.offset(chunk, channel, tile_row);
                for (std::int64_t position = 0; position < chunk.run; position += LANES<T>)
                    two_sided<Form::OUTPUT, T>(
                        [&](int y, int x) {
                            return load_ahead(from + (y * Form::OUTPUT.COLUMNS + x) * sum_plane + position, LANES<T>);
                        },
                        [&](int y, int x, Vector<T> value) {
                            store_first(to + y * places.row_stride + places.columns[x] + position, (value + bias) * scale,
                                        chunk.run - position);
                        });
                if (!places.straight) finish<Form>(conv, tiling, chunk, channel, tile_row, conv.line);
            }
        }
    });
}

}  // namespace

template <class T>
void winograd_forward(const Conv<T>& conv) {
    const Tiling tiling = tiling_of(conv);
    with_form(conv.method, [&]<class Form>(Form) {
        for_each_chunk(tiling, [&](const Chunk& chunk) { forward_chunk<Form>(conv, tiling, chunk); });
    });
}

template void winograd_forward(const Conv<float>&);
template void winograd_forward(const Conv<double>&);

}  // namespace fedlps::FEDLPS_ISA
