#include "cpu/winograd.h"

namespace fedlps::FEDLPS_ISA {
namespace {

// A block of the weights' gradient from that of what they were transformed to, [weight][channel][row].
template <class Form, class T>
void gather_weights_gradient(const Conv<T>& conv, Range rows, Range channels) {
    const std::int64_t pitch = conv.in.channels * 9;
    Strip<T> strip;
    for (std::int64_t row = 0; row < rows.count; row += LANES<T>)
        for (std::int64_t channel = 0; channel < channels.count; channel += LANES<T>) {
            const std::int64_t some = least(channels.count - channel, LANES<T>);
            for (std::int64_t each = 0; each < some; ++each) {
                const T* from = conv.packed + (channel + each) * BLOCK + row;
                T* to = strip + each * 9 * LANES<T>;
                two_sided<Form::WEIGHT.transposed(), T>(
                    [&](int y, int x) { return load(from + (y * Form::WEIGHT.ROWS + x) * WEIGHT_PLANE); },
                    [&](int y, int x, Vector<T> value) { store(to + (y * 3 + x) * LANES<T>, value); });
            }
            transpose(strip, LANES<T>, some * 9, least(rows.count - row, LANES<T>),
                      conv.weight_gradient + (rows.first + row) * pitch + (channels.first + channel) * 9, pitch);
        }
}

template <class Form, class T>
void weight_gradient(const Conv<T>& conv) {
    const Tiling tiling = tiling_of(conv);
    const std::int64_t channel_pitch = Tiling::turned_pitch(conv.in.channels);
    const std::int64_t value_plane = tiling.turned_plane(conv.in.channels), sum_plane = tiling.turned_plane(BLOCK);
    T* values = conv.partial;
    T* sums = values + Form::VALUES * value_plane;
    // sums run over the lanes: these come first
    for (int value = 0; value < Form::VALUES; ++value)
        transpose(conv.tiles + value * tiling.plane(conv.in.channels), tiling.pitch, conv.in.channels, tiling.lanes,
                  values + value * value_plane, channel_pitch);
    for (Range rows{0, 0}; rows.first < conv.rows; rows.first += BLOCK) {
        rows.count = least(conv.rows - rows.first, BLOCK);
        for (int sum = 0; sum < Form::VALUES; ++sum)
            transpose(conv.expanded + sum * tiling.plane(conv.rows) + rows.first * tiling.pitch, tiling.pitch,
                      rows.count, tiling.lanes, sums + sum * sum_plane, BLOCK);
        for (Range channels{0, 0}; channels.first < conv.in.channels; channels.first += BLOCK) {
            channels.count = least(conv.in.channels - channels.first, BLOCK);
            for (int number = 0; number < Form::TERMS; ++number) {
                const Term term = Form::term(number);
                multiply<T>({values + term.value * value_plane + channels.first, channel_pitch,
                             sums + term.sum * sum_plane, BLOCK, conv.packed + term.weight * WEIGHT_PLANE, BLOCK,
                             channels.count, rows.count, tiling.lanes, !term.first_of_weight});
            }
            gather_weights_gradient<Form>(conv, rows, channels);
        }
    }
}

}  // namespace

template <class T>
void winograd_weight_gradient(const Conv<T>& conv) {
    with_form(conv.method, [&]<class Form>(Form) { weight_gradient<Form>(conv); });
}

template void winograd_weight_gradient(const Conv<float>&);
template void winograd_weight_gradient(const Conv<double>&);

}  // namespace fedlps::FEDLPS_ISA
