#include "cpu/winograd.h"

namespace fedlps::FEDLPS_ISA {
namespace {

// The gradient of one row of tiles before what is fused behind it; sums it for the bias.
template <class Form, class T>
void read_gradient(const Conv<T>& conv, const Tiling tiling, std::int64_t channel, std::int64_t row, Vector<T>& bias) {
    for (std::int64_t y = 0; y < Form::STEP; ++y)
        read_tile_line<Form::STEP>(conv.targets, channel, row * Form::STEP + y, conv.width,
                                   conv.line + y * Form::STEP * tiling.line_pitch(), tiling.line_pitch());
    const Vector<T> scale = broadcast(conv.scale), dead = broadcast(static_cast<T>(DEAD));
    for (std::int64_t line = 0; line < Form::STEP * Form::STEP; ++line)
        for (std::int64_t position = 0; position < tiling.run; position += LANES<T>) {
            T* at = conv.line + line * tiling.line_pitch() + position;
            Vector<T> value = load_first(at, tiling.run - position) * scale;
            if (conv.codes) {
                const Vector<T> code = load(code_line(conv, tiling, channel, row, line) + position);
                value = code == dead ? Vector<T>{} : value;
            }
            bias += value;
            store(at, value);
        }
}

template <class Form, class T>
void expand(const Conv<T>& conv) {
    const Tiling tiling = tiling_of(conv);
    const std::int64_t plane = tiling.plane(conv.rows);
    for (std::int64_t channel = 0; channel < conv.rows; ++channel) {
        Vector<T> bias{};
        for (std::int64_t row = 0; row < tiling.rows; ++row) {
            read_gradient<Form>(conv, tiling, channel, row, bias);
            T* to = conv.expanded + channel * tiling.pitch + row * tiling.run;
            for (std::int64_t position = 0; position < tiling.run; position += LANES<T>)
                two_sided<Form::OUTPUT.transposed(), T>(
                    [&](int y, int x) {
                        return load(conv.line + (y * Form::STEP + x) * tiling.line_pitch() + position);
                    },
                    [&](int y, int x, Vector<T> value) {
                        store_ahead(to + (y * Form::OUTPUT.COLUMNS + x) * plane + position, value);
                    });
        }
        if (conv.bias_gradient) conv.bias_gradient[channel] = sum<T>(bias);
    }
}

// A block of weights, transformed and turned: [weight][row][channel].
template <class Form, class T>
void transform_weights(const Conv<T>& conv, Range rows, Range channels) {
    Strip<T> strip;
    for (std::int64_t row = 0; row < rows.count; ++row)
        for (std::int64_t channel = 0; channel < channels.count; channel += LANES<T>) {
            transpose(conv.weight + ((rows.first + row) * conv.in.channels + channels.first + channel) * 9, 9,
                      least(channels.count - channel, LANES<T>), 9, strip, LANES<T>);
            T* to = conv.packed + row * BLOCK + channel;
            two_sided<Form::WEIGHT, T>(
                [&](int y, int x) { return load(strip + (y * 3 + x) * LANES<T>); },
                [&](int y, int x, Vector<T> value) { store(to + (y * Form::WEIGHT.ROWS + x) * WEIGHT_PLANE, value); });
        }
}

// One channel's gradient from that of its tiles, which overlap.
template <class Form, class T>
void gather_tiles(const Conv<T>& conv, const Tiling tiling, const T* tiles, std::int64_t plane, T* result) {
    const Image in = conv.in;
    const std::int64_t row_stride = in.row_stride(), size = in.channel_stride();
    std::int64_t columns[Form::SIDE];
    for (int column = 0; column < Form::SIDE; ++column) columns[column] = in.column(column);
    for (std::int64_t entry = 0; entry < size; ++entry) result[entry] = 0;
    for (std::int64_t row = 0; row < tiling.rows; ++row)
        for (std::int64_t position = 0; position < tiling.run; position += LANES<T>) {
            const T* from = tiles + row * tiling.run + position;
            T* to = result + row * Form::STEP * row_stride + position;
            const std::int64_t lanes = tiling.run - position;
            two_sided<Form::INPUT.transposed(), T>(
                [&](int y, int x) { return load_ahead(from + (y * Form::INPUT.ROWS + x) * plane, lanes); },
                [&](int y, int x, Vector<T> value) {
                    T* at = to + y * row_stride + columns[x];
                    store_first(at, load(at) + value, lanes);
                });
        }
}

template <class Form, class T>
void input_gradient(const Conv<T>& conv) {
    const Tiling tiling = tiling_of(conv);
    const std::int64_t sum_plane = tiling.plane(conv.rows), value_plane = tiling.plane(BLOCK);
    const std::int64_t turned_plane = tiling.turned_plane(BLOCK);
    T* values = conv.partial;
    T* turned_values = values + Form::VALUES * value_plane;
    for (Range channels{0, 0}; channels.first < conv.in.channels; channels.first += BLOCK) {
        channels.count = least(conv.in.channels - channels.first, BLOCK);
        const bool turn = turned<T>(tiling.lanes, channels.count);
        for (Range rows{0, 0}; rows.first < conv.rows; rows.first += BLOCK) {
            rows.count = least(conv.rows - rows.first, BLOCK);
            transform_weights<Form>(conv, rows, channels);
            for (int number = 0; number < Form::TERMS; ++number) {
                const Term term = Form::term(number);
                const T* sums = conv.expanded + term.sum * sum_plane + rows.first * tiling.pitch;
                const T* weights = conv.packed + term.weight * WEIGHT_PLANE;
                const bool add = rows.first > 0 || !term.first_of_value;
                if (turn)
                    multiply<T>({sums, tiling.pitch, weights, BLOCK, turned_values + term.value * turned_plane, BLOCK,
                                 tiling.lanes, channels.count, rows.count, add});
                else
                    multiply<T>({weights, BLOCK, sums, tiling.pitch, values + term.value * value_plane, tiling.pitch,
                                 channels.count, tiling.lanes, rows.count, add});
            }
        }
        if (turn)
            for (int value = 0; value < Form::VALUES; ++value)
                transpose(turned_values + value * turned_plane, BLOCK, tiling.lanes, channels.count,
                          values + value * value_plane, tiling.pitch);
        for (std::int64_t channel = 0; channel < channels.count; ++channel)
            gather_tiles<Form>(conv, tiling, values + channel * tiling.pitch, value_plane,
                               conv.input_gradient + (channels.first + channel) * conv.in.channel_stride());
    }
}

}  // namespace

template <class T>
void winograd_expand(const Conv<T>& conv) {
    with_form(conv.method, [&]<class Form>(Form) { expand<Form>(conv); });
}

template <class T>
void winograd_input_gradient(const Conv<T>& conv) {
    with_form(conv.method, [&]<class Form>(Form) { input_gradient<Form>(conv); });
}

template void winograd_expand(const Conv<float>&);
template void winograd_expand(const Conv<double>&);
template void winograd_input_gradient(const Conv<float>&);
template void winograd_input_gradient(const Conv<double>&);

}  // namespace fedlps::FEDLPS_ISA
