#include "cpu/winograd.h"

namespace fedlps::FEDLPS_ISA {
namespace {

template <class Form, class T>
void transform_input(const Conv<T>& conv, const Tiling tiling) {
    const Image in = conv.in;
    const std::int64_t plane = tiling.plane(in.channels), row_stride = in.row_stride();
    std::int64_t columns[Form::SIDE];
    for (int column = 0; column < Form::SIDE; ++column) columns[column] = in.column(column);
    // what a row's last vector writes too much, the next row, channel or plane overwrites
    for (std::int64_t channel = 0; channel < in.channels; ++channel)
        for (std::int64_t row = 0; row < tiling.rows; ++row) {
            const T* input = conv.input + channel * in.channel_stride() + row * Form::STEP * row_stride;
            T* tiles = conv.tiles + channel * tiling.pitch + row * tiling.run;
            for (std::int64_t position = 0; position < tiling.run; position += LANES<T>)
                two_sided<Form::INPUT, T>(
                    [&](int y, int x) { return load(input + y * row_stride + columns[x] + position); },
                    [&](int y, int x, Vector<T> value) {
                        store_ahead(tiles + (y * Form::INPUT.ROWS + x) * plane + position, value);
                    });
        }
}

// A block of weights, transformed: [weight][channel][row].
template <class Form, class T>
void transform_weights(const Conv<T>& conv, Range rows, Range channels) {
    const std::int64_t pitch = conv.in.channels * 9;
    Strip<T> strip;
    for (std::int64_t row = 0; row < rows.count; row += LANES<T>)
        for (std::int64_t channel = 0; channel < channels.count; channel += LANES<T>) {
            const std::int64_t some = least(channels.count - channel, LANES<T>);
            transpose(conv.weight + (rows.first + row) * pitch + (channels.first + channel) * 9, pitch,
                      least(rows.count - row, LANES<T>), some * 9, strip, LANES<T>);
            for (std::int64_t each = 0; each < some; ++each) {
                const T* from = strip + each * 9 * LANES<T>;
                T* to = conv.packed + (channel + each) * BLOCK + row;
                two_sided<Form::WEIGHT, T>(
                    [&](int y, int x) { return load(from + (y * 3 + x) * LANES<T>); },
                    [&](int y, int x, Vector<T> value) { store(to + (y * Form::WEIGHT.ROWS + x) * WEIGHT_PLANE, value); });
            }
        }
}

// The outputs of one row of tiles, with what is fused behind them, to where their readers find them.
template <class Form, class T>
void finish(const Conv<T>& conv, const Tiling tiling, std::int64_t channel, std::int64_t row, T* lines) {
    const Vector<T> bias = conv.bias ? broadcast(conv.bias[channel]) : Vector<T>{}, scale = broadcast(conv.scale);
    for (std::int64_t line = 0; line < Form::STEP * Form::STEP; ++line)
        for (std::int64_t position = 0; position < tiling.run; position += LANES<T>) {
            T* at = lines + line * tiling.line_pitch() + position;
            Vector<T> value = (load(at) + bias) * scale;
            if (conv.relu) {
                const auto dead = value <= Vector<T>{};
                value = dead ? Vector<T>{} : value;
                if (conv.codes)
                    store_first(code_line(conv, tiling, channel, row, line) + position,
                                dead ? broadcast(static_cast<T>(DEAD)) : Vector<T>{}, tiling.run - position);
            }
            store(at, value);
        }
    for (std::int64_t y = 0; y < Form::STEP; ++y)
        write_tile_line<Form::STEP>(conv.targets, channel, row * Form::STEP + y, conv.width,
                                    lines + y * Form::STEP * tiling.line_pitch(), tiling.line_pitch());
}

template <class Form, class T>
void forward(const Conv<T>& conv) {
    const Tiling tiling = tiling_of(conv);
    const std::int64_t value_plane = tiling.plane(conv.in.channels), sum_plane = tiling.plane(BLOCK);
    const std::int64_t turned_plane = tiling.turned_plane(BLOCK);
    T* sums = conv.partial;
    T* turned_sums = sums + Form::VALUES * sum_plane;
    transform_input<Form>(conv, tiling);
    for (Range rows{0, conv.rows}; rows.first < conv.rows; rows.first += BLOCK) {
        rows.count = least(conv.rows - rows.first, BLOCK);
        const bool turn = turned<T>(tiling.lanes, rows.count);
        for (Range channels{0, 0}; channels.first < conv.in.channels; channels.first += BLOCK) {
            channels.count = least(conv.in.channels - channels.first, BLOCK);
            transform_weights<Form>(conv, rows, channels);
            for (int number = 0; number < Form::TERMS; ++number) {
                const Term term = Form::term(number);
                const T* values = conv.tiles + term.value * value_plane + channels.first * tiling.pitch;
                const T* weights = conv.packed + term.weight * WEIGHT_PLANE;
                const bool add = channels.first > 0 || !term.first_of_sum;
                if (turn)
                    multiply<T>({values, tiling.pitch, weights, BLOCK, turned_sums + term.sum * turned_plane, BLOCK,
                                 tiling.lanes, rows.count, channels.count, add});
                else
                    multiply<T>({weights, BLOCK, values, tiling.pitch, sums + term.sum * sum_plane, tiling.pitch,
                                 rows.count, tiling.lanes, channels.count, add});
            }
        }
        if (turn)
            for (int sum = 0; sum < Form::VALUES; ++sum)
                transpose(turned_sums + sum * turned_plane, BLOCK, tiling.lanes, rows.count, sums + sum * sum_plane,
                          tiling.pitch);
        for (std::int64_t row = 0; row < rows.count; ++row)
            for (std::int64_t tile_row = 0; tile_row < tiling.rows; ++tile_row) {
                const T* from = sums + row * tiling.pitch + tile_row * tiling.run;
                for (std::int64_t position = 0; position < tiling.run; position += LANES<T>)
                    two_sided<Form::OUTPUT, T>(
                        [&](int y, int x) {
                            return load_ahead(from + (y * Form::OUTPUT.COLUMNS + x) * sum_plane + position, LANES<T>);
                        },
                        [&](int y, int x, Vector<T> value) {
                            store(conv.line + (y * Form::STEP + x) * tiling.line_pitch() + position, value);
                        });
                finish<Form>(conv, tiling, rows.first + row, tile_row, conv.line);
            }
    }
}

}  // namespace

template <class T>
void winograd_forward(const Conv<T>& conv) {
    with_form(conv.method, [&]<class Form>(Form) { forward<Form>(conv); });
}

template void winograd_forward(const Conv<float>&);
template void winograd_forward(const Conv<double>&);

}  // namespace fedlps::FEDLPS_ISA
