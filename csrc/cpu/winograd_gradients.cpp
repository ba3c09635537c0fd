#include "cpu/interleave.h"
#include "cpu/winograd.h"

namespace fedlps::FEDLPS_ISA {
namespace {

// The gradient of one row of tiles before what is fused behind it, [line][lane].
template <class Form, class T>
void read_gradient(const Conv<T>& conv, const Tiling& tiling, const Chunk& chunk, std::int64_t channel, std::int64_t row) {
    const std::int64_t pitch = tiling.line_pitch(), side = Form::STEP / conv.pool;
    T* finished_lines = conv.pool == 2 ? conv.line + Form::STEP * Form::STEP * pitch : conv.line;
    const Lines lines = lines_of(tiling, chunk, side);
    for (std::int64_t y = 0; y < side; ++y)
        read_lines(conv.targets, channel, (chunk.first_row + row) * side + y, lines, finished_lines + y * side * pitch);
    if (!conv.codes) return;
    const Vector<T> dead = broadcast(static_cast<T>(DEAD));
    for (std::int64_t line = 0; line < side * side; ++line) {
        const T* from = finished_lines + line * pitch;
        T* to = conv.line + (conv.pool == 2 ? line / side * 2 * Form::STEP + line % side * 2 : line) * pitch;
        const T* codes = code_line(conv, tiling, chunk, channel, row, line);
        for (std::int64_t position = 0; position < chunk.run; position += LANES<T>) {
            const Vector<T> value = load(from + position), code = load(codes + position);
            if (conv.pool == 1) {
                store(to + position, code == dead ? Vector<T>{} : value);
                continue;
            }
#pragma GCC unroll 4
            for (int window = 0; window < 4; ++window)
                store(to + (window / 2 * Form::STEP + window % 2) * pitch + position,
                      code == broadcast(static_cast<T>(window)) ? value : Vector<T>{});
        }
    }
}

// The gradients of a chunk's outputs, transformed: [value][row][lane]; sums them for the bias.
template <class Form, class T>
void expand(const Conv<T>& conv, const Tiling& tiling, const Chunk& chunk) {
    const std::int64_t plane = tiling.plane(conv.rows);
    const Places<Form> places(conv, tiling);
    const bool first_chunk = chunk.first_row == 0 && chunk.first == 0;
    const Vector<T> scale = broadcast(conv.scale);
    for (std::int64_t channel = 0; channel < conv.rows; ++channel) {
        Vector<T> bias{};
        for (std::int64_t row = 0; row < chunk.rows; ++row) {
            if (!places.straight) read_gradient<Form>(conv, tiling, chunk, channel, row);
            const T* from = (places.straight ? conv.targets.front().gradient : conv.line) + places.offset(chunk, channel, row);
            T* to = conv.expanded + channel * tiling.pitch + row * chunk.run;
            for (std::int64_t position = 0; position < chunk.run; position += LANES<T>)
                two_sided<Form::OUTPUT.transposed(), T>(
                    [&](int y, int x) {
                        const T* at = from + y * places.row_stride + places.columns[x] + position;
                        const Vector<T> value = load_first(at, chunk.run - position) * scale;
                        bias += value;
                        return value;
                    },
                    [&](int y, int x, Vector<T> value) {
                        store_ahead(to + (y * Form::OUTPUT.COLUMNS + x) * plane + position, value);
                    });
        }
        if (conv.bias_gradient) conv.bias_gradient[channel] = (first_chunk ? T{0} : conv.bias_gradient[channel]) + sum<T>(bias);
    }
}

// A part of the rows' step.
template <class T>
PlainStep<T> part_of(const PlainStep<T>& step, std::int64_t first_row, std::int64_t first) {
    PlainStep<T> part = step;
    part.weights += first;
    if (part.reference) part.reference += first;
    if (part.sums) part.sums += first_row;
    return part;
}

// A block of the weights' gradient from that of what they were transformed to, [value][row][channel]; or their step.
template <class Form, class T>
void gather_weights_gradient(const Conv<T>& conv, const Tiling& tiling, const T* transformed, Range rows, Range channels) {
    constexpr int AREA = Form::KERNEL * Form::KERNEL, MOST = 64;  // channels at once
    const std::int64_t to_pitch = conv.in.channels * AREA, pitch = Tiling::padded(tiling.channel_block);
    const std::int64_t plane = Tiling::weight_plane(tiling.row_block, tiling.channel_block);
    T entries[AREA * LANES<T>], gradient[(MOST + LANES<T>) * AREA];
    for (std::int64_t row = 0; row < rows.count; ++row)
        for (std::int64_t first = 0; first < channels.count; first += MOST) {
            const std::int64_t most = least(channels.count - first, MOST);
            const std::int64_t place = (rows.first + row) * to_pitch + (channels.first + first) * AREA;
            for (std::int64_t channel = 0; channel < most; channel += LANES<T>) {
                const T* from = transformed + row * pitch + first + channel;
                two_sided<Form::WEIGHT.transposed(), T>(
                    [&](int y, int x) { return load(from + (y * Form::WEIGHT.ROWS + x) * plane); },
                    [&](int y, int x, Vector<T> value) { store(entries + (y * Form::KERNEL + x) * LANES<T>, value); });
                if constexpr (AREA == 9)
                    join_windows(entries, gradient + channel * AREA);
                else
                    transpose(entries, LANES<T>, AREA, LANES<T>, gradient + channel * AREA, AREA);
            }
            if (conv.step)
                conv.step->finite &= plain_step(part_of(*conv.step, rows.first + row, place), 1, most * AREA, 0, gradient, 0);
            else
                copy_entries(gradient, most * AREA, conv.weight_gradient + place);
        }
}

template <class Form, class T>
void weight_gradient(const Conv<T>& conv, const Tiling& tiling, const Chunk& chunk) {
    const std::int64_t channel_pitch = Tiling::padded(conv.in.channels), value_plane = tiling.turned_plane(conv.in.channels);
    const std::int64_t weight_pitch = Tiling::padded(tiling.channel_block);
    const std::int64_t weight_plane = Tiling::weight_plane(tiling.row_block, tiling.channel_block);
    const std::int64_t lanes = chunk.lanes();
    const bool first_chunk = chunk.first_row == 0 && chunk.first == 0;
    const bool last_chunk = chunk.first_row + chunk.rows == tiling.rows && chunk.first + chunk.run == tiling.run;
    T* values = conv.partial;
    // sums run over the lanes: vectors are of channels
    for (int value = 0; value < Form::VALUES; ++value)
        transpose(conv.tiles + value * tiling.plane(conv.in.channels), tiling.pitch, conv.in.channels, lanes,
                  values + value * value_plane, channel_pitch);
    for_each_block(conv.rows, tiling.row_block, [&](Range rows) {
        for_each_block(conv.in.channels, tiling.channel_block, [&](Range channels) {
            T* transformed = conv.packed + tiling.packed() + tiling.block(rows.first, channels.first);
            Ahead<T> ahead = ahead_of(conv, rows, channels);
            if (conv.step && conv.step->reference) ahead.also = conv.step->reference + (ahead.from - conv.weight);
            const std::int64_t lines = conv.step && last_chunk ? ahead.share(Form::VALUES) : 0;
            for (int value = 0; value < Form::VALUES; ++value)
                multiply<T>({conv.expanded + value * tiling.plane(conv.rows) + rows.first * tiling.pitch, tiling.pitch,
                             values + value * value_plane + channels.first, channel_pitch,
                             transformed + value * weight_plane, weight_pitch, rows.count, channels.count, lanes,
                             !first_chunk, true},
                            ahead, lines);
            if (last_chunk) gather_weights_gradient<Form>(conv, tiling, transformed, rows, channels);
        });
    });
}

// A block of weights, transformed and turned: [value][row][channel].
template <class Form, class T>
void transform_weights(const Conv<T>& conv, const Tiling& tiling, Range rows, Range channels, T* packed) {
    constexpr int AREA = Form::KERNEL * Form::KERNEL;
    const std::int64_t pitch = Tiling::padded(tiling.channel_block);
    const std::int64_t plane = Tiling::weight_plane(tiling.row_block, tiling.channel_block);
    T entries[AREA * LANES<T>];
    for (std::int64_t row = 0; row < rows.count; ++row)
        for (std::int64_t channel = 0; channel < channels.count; channel += LANES<T>) {
            const T* from = conv.weight + ((rows.first + row) * conv.in.channels + channels.first + channel) * AREA;
            if (AREA == 9 && channel + LANES<T> <= channels.count)
                split_windows(from, entries);
            else
                transpose(from, AREA, least(channels.count - channel, LANES<T>), AREA, entries, LANES<T>);
            T* to = packed + row * pitch + channel;
            two_sided<Form::WEIGHT, T>(
                [&](int y, int x) { return load(entries + (y * Form::KERNEL + x) * LANES<T>); },
                [&](int y, int x, Vector<T> value) { store(to + (y * Form::WEIGHT.ROWS + x) * plane, value); });
        }
}

// Adds one channel's gradient of a chunk's tiles, which overlap.
template <class Form, class T>
void gather_tiles(const Conv<T>& conv, const Chunk& chunk, const T* tiles, std::int64_t plane, T* result) {
    const Image in = conv.in;
    const std::int64_t row_stride = in.row_stride();
    std::int64_t columns[Form::SIDE];
    for (int column = 0; column < Form::SIDE; ++column) columns[column] = in.column(column);
    for (std::int64_t row = 0; row < chunk.rows; ++row)
        for (std::int64_t position = 0; position < chunk.run; position += LANES<T>) {
            const T* from = tiles + row * chunk.run + position;
            T* to = result + (chunk.first_row + row) * Form::STEP * row_stride + chunk.first + position;
            const std::int64_t lanes = chunk.run - position;
            two_sided<Form::INPUT.transposed(), T>(
                [&](int y, int x) { return load_ahead(from + (y * Form::INPUT.ROWS + x) * plane, lanes); },
                [&](int y, int x, Vector<T> value) {
                    T* at = to + y * row_stride + columns[x];
                    store_first(at, load(at) + value, lanes);
                });
        }
}

template <class Form, class T>
void input_gradient(const Conv<T>& conv, const Tiling& tiling, const Chunk& chunk) {
    const std::int64_t sum_plane = tiling.plane(conv.rows), value_plane = tiling.sum_plane(tiling.channel_block);
    const std::int64_t weight_pitch = Tiling::padded(tiling.channel_block);
    const std::int64_t weight_plane = Tiling::weight_plane(tiling.row_block, tiling.channel_block);
    const std::int64_t turned_plane = tiling.turned_plane(tiling.channel_block), lanes = chunk.lanes();
    const bool first_chunk = chunk.first_row == 0 && chunk.first == 0;
    T* values = conv.partial;
    T* turned_values = values + Form::VALUES * value_plane;
    if (first_chunk)
        for (std::int64_t entry = 0, size = conv.in.size(); entry < size; ++entry) conv.input_gradient[entry] = 0;
    for_each_block(conv.in.channels, tiling.channel_block, [&](Range channels) {
        const bool turn = turned<T>(lanes, channels.count);
        for_each_block(conv.rows, tiling.row_block, [&](Range rows) {
            T* packed = conv.packed + tiling.block(rows.first, channels.first);
            if (first_chunk || !tiling.once) transform_weights<Form>(conv, tiling, rows, channels, packed);
            const Block next = behind({channels, rows}, conv.in.channels, tiling.channel_block, conv.rows, tiling.row_block);
            Ahead<T> ahead = ahead_of(conv, next.inner, next.outer);
            const std::int64_t lines = tiling.once ? 0 : ahead.share(Form::VALUES);
            for (int value = 0; value < Form::VALUES; ++value) {
                const T* sums = conv.expanded + value * sum_plane + rows.first * tiling.pitch;
                const T* weights = packed + value * weight_plane;
                const bool add = rows.first > 0;
                if (turn)
                    multiply<T>({sums, tiling.pitch, weights, weight_pitch, turned_values + value * turned_plane,
                                 weight_pitch, lanes, channels.count, rows.count, add}, ahead, lines);
                else
                    multiply<T>({weights, weight_pitch, sums, tiling.pitch, values + value * value_plane,
                                 tiling.sum_pitch, channels.count, lanes, rows.count, add}, ahead, lines);
            }
        });
        if (turn)
            for (int value = 0; value < Form::VALUES; ++value)
                transpose(turned_values + value * turned_plane, weight_pitch, lanes, channels.count,
                          values + value * value_plane, tiling.sum_pitch);
        for (std::int64_t channel = 0; channel < channels.count; ++channel)
            gather_tiles<Form>(conv, chunk, values + channel * tiling.sum_pitch, value_plane,
                               conv.input_gradient + (channels.first + channel) * conv.in.channel_stride());
    });
}

}  // namespace

template <class T>
void winograd_gradients(const Conv<T>& conv) {
    const Tiling tiling = tiling_of(conv);
    with_form(conv.method, [&]<class Form>(Form) {
        for_each_chunk(tiling, [&](const Chunk& chunk) {
            expand<Form>(conv, tiling, chunk);
            transform_input<Form>(conv, tiling, chunk);
            // first what reads the weights: the other may change them
            if (conv.input_gradient) input_gradient<Form>(conv, tiling, chunk);
            weight_gradient<Form>(conv, tiling, chunk);
        });
        if (conv.step) conv.step->taken = true;
    });
}

template void winograd_gradients(const Conv<float>&);
template void winograd_gradients(const Conv<double>&);

}  // namespace fedlps::FEDLPS_ISA
