#include <utility>

#include "cpu/conv.h"
#include "cpu/tile.h"

namespace fedlps::FEDLPS_ISA {
namespace {

// Sums over the positions of some rows, for a block of units and the taps of one kernel row and input channel.
template <class T>
struct Spot {
    const Conv<T>& conv;
    const Expanded& expanded;
    const T* gradient;  // of the first unit and row
    const T* input;     // of the first row, at the kernel row
    const std::int64_t* columns;  // where padded columns begin in a row of the input
    std::int64_t heights;         // pooled rows
    std::int64_t first_tap;
    T* partial;  // of the first unit
    std::int64_t pitch;
    bool fresh;  // nothing has been summed yet
};

template <class T, int UNITS, int TAPS>
void tile(const Spot<T>& at) {
    const Conv<T>& conv = at.conv;
    Vector<T> sums[UNITS][TAPS] = {};
    if (!at.fresh)
#pragma GCC unroll 16
        for (int unit = 0; unit < UNITS; ++unit)
#pragma GCC unroll 8
            for (int tap = 0; tap < TAPS; ++tap) sums[unit][tap] = load(at.partial + unit * at.pitch + tap * LANES<T>);
    const std::int64_t samples = conv.width * conv.in.batch;
    const std::int64_t step = conv.stride * conv.in.row_stride();
    for (std::int64_t row = 0; row < at.heights * conv.pool; ++row)
        for (std::int64_t phase = 0; phase < conv.pool; ++phase) {
            const T* gradient = at.gradient + row * at.expanded.row_stride + phase * at.expanded.phase_stride;
            const T* inputs[TAPS];
#pragma GCC unroll 8
            for (int tap = 0; tap < TAPS; ++tap)
                inputs[tap] = at.input + row * step + at.columns[phase * conv.stride + at.first_tap + tap];
            for (std::int64_t position = 0; position < samples; position += LANES<T>) {
                Vector<T> factors[UNITS];
#pragma GCC unroll 16
                for (int unit = 0; unit < UNITS; ++unit)
                    factors[unit] = load(gradient + unit * at.expanded.channel_stride + position);
#pragma GCC unroll 8
                for (int tap = 0; tap < TAPS; ++tap) {
                    const Vector<T> input = load(inputs[tap] + position);
#pragma GCC unroll 16
                    for (int unit = 0; unit < UNITS; ++unit) sums[unit][tap] += factors[unit] * input;
                }
            }
        }
#pragma GCC unroll 16
    for (int unit = 0; unit < UNITS; ++unit)
#pragma GCC unroll 8
        for (int tap = 0; tap < TAPS; ++tap) store(at.partial + unit * at.pitch + tap * LANES<T>, sums[unit][tap]);
}

template <class T>
using Tile = void (*)(const Spot<T>&);

inline constexpr int MOST_UNITS = 8;
inline constexpr int WIDEST = 5;

// The most units whose sums for so many taps fit the registers.
constexpr int most_units(int taps) {
    const int units = (REGISTERS - 2) / (taps + 1);
    return units > MOST_UNITS ? MOST_UNITS : units;
}

template <class T, int TAPS, int... UNITS>
constexpr auto tiles_of(std::integer_sequence<int, UNITS...>) {
    return Tiles<Tile<T>>{{tile<T, UNITS + 1, TAPS>...}, sizeof...(UNITS)};
}
template <class T, int TAPS>
constexpr auto TILES = tiles_of<T, TAPS>(std::make_integer_sequence<int, most_units(TAPS)>());
template <class T>
constexpr const Tiles<Tile<T>>* CHOICES[WIDEST] = {&TILES<T, 1>, &TILES<T, 2>, &TILES<T, 3>, &TILES<T, 4>, &TILES<T, 5>};

// Of a and b side by side, in groups of 2 * DISTANCE lanes: each group's first half plus its second.
template <class T, int DISTANCE, std::size_t... LANE>
[[gnu::always_inline]] inline Vector<T> halved(Vector<T> a, Vector<T> b, std::index_sequence<LANE...>) {
    constexpr auto first = [](std::size_t lane) { return static_cast<int>(lane / DISTANCE * 2 * DISTANCE + lane % DISTANCE); };
    return __builtin_shufflevector(a, b, first(LANE)...) + __builtin_shufflevector(a, b, (first(LANE) + DISTANCE)...);
}

// The sums of COUNT vectors' lanes, halves first, in the order of the vectors.
template <class T, int COUNT>
[[gnu::always_inline]] inline Vector<T> sums_of(const T* vectors) {
    if constexpr (COUNT == 1) {
        return load(vectors);
    } else {
        const Vector<T> left = sums_of<T, COUNT / 2>(vectors);
        const Vector<T> right = sums_of<T, COUNT / 2>(vectors + COUNT / 2 * LANES<T>);
        return halved<T, LANES<T> / COUNT>(left, right, std::make_index_sequence<LANES<T>>());
    }
}

template <class T>
void reduce(const T* vectors, std::int64_t count, T* sums) {
    std::int64_t done = 0;
    for (; done + LANES<T> <= count; done += LANES<T>)
        store(sums + done, sums_of<T, LANES<T>>(vectors + done * LANES<T>));
    for (; done < count; ++done) sums[done] = sum<T>(load(vectors + done * LANES<T>));
}

// Spreads a channel's pooled gradient over the window positions that were the maximum, with zeros up to a whole vector;
// sums it for the bias.
template <class T>
void expand(const Conv<T>& conv, const Expanded& to, std::int64_t channel, std::int64_t y, T* rows, Vector<T>& bias) {
    const std::int64_t samples = conv.width * conv.in.batch;
    // Straight from a single reader, where no vector lies across columns that are apart there; else gathered.
    const Target<T>& reader = conv.targets.front();
    const Image image = reader.image;
    const bool together = image.phases == 1;
    const bool straight = conv.targets.size() == 1 && (together || conv.in.batch % LANES<T> == 0);
    if (!straight) read_line(conv.targets, channel, y, conv.width, conv.line);
    const T* line = straight ? reader.gradient + image.row(channel, y) : conv.line;
    Columns column(image, image.padding);
    std::int64_t sample = 0;
    const T* codes = conv.codes ? conv.codes + (channel * conv.height + y) * samples : nullptr;
    const Vector<T> scale = broadcast(conv.scale), dead = broadcast(static_cast<T>(DEAD));
    for (std::int64_t position = 0; position < samples; position += LANES<T>) {
        const std::int64_t from = !straight ? position : together ? column.offset + position : column.offset + sample;
        if ((sample += LANES<T>) == conv.in.batch && !together) {
            sample = 0;
            column.next();
        }
        Vector<T> gradient = load_first(line + from, samples - position) * scale;
        const Vector<T> code = codes ? load_first(codes + position, samples - position) : Vector<T>{};
        gradient = code == dead ? Vector<T>{} : gradient;
        bias += gradient;
        if (conv.pool == 1) {
            store(rows + position, gradient);
            continue;
        }
#pragma GCC unroll 4
        for (int window = 0; window < 4; ++window)
            store(rows + window / 2 * to.row_stride + window % 2 * to.phase_stride + position,
                  code == broadcast(static_cast<T>(window)) ? gradient : Vector<T>{});
    }
}

}  // namespace

template <class T>
void conv_expand(const Conv<T>& conv) {
    const Expanded expanded(conv, conv.height);
    for (std::int64_t channel = 0; channel < conv.rows; ++channel) {
        Vector<T> bias{};
        for (std::int64_t y = 0; y < conv.height; ++y)
            expand(conv, expanded, channel, y, conv.expanded + expanded.offset(channel, y * conv.pool), bias);
        if (conv.bias_gradient) conv.bias_gradient[channel] = sum<T>(bias);
    }
}

template <class T>
void conv_weight_gradient(const Conv<T>& conv) {
    const Image& in = conv.in;
    const std::int64_t area = conv.kernel * conv.kernel, each = in.channels * area;
    const bool whole = conv.input_gradient != nullptr;  // the expanded gradient is there already, and stays
    const std::int64_t widest = conv.kernel < WIDEST ? conv.kernel : WIDEST;
    const Blocks blocks(conv.rows, CHOICES<T>[widest - 1]->most);
    const Expanded expanded(conv, whole ? conv.height : portion_height(conv));
    std::int64_t columns[2 * MAX_SIDE];
    for (std::int64_t column = 0; column < conv.kernel + conv.stride; ++column) columns[column] = in.column(column);

    for (std::int64_t block = 0; block < blocks.count; ++block) {
        const auto [first, units] = blocks[block];
        Vector<T> bias[MOST_UNITS] = {};
        const std::int64_t portion = portion_height(conv);
        for (std::int64_t y = 0; y < conv.height; y += portion) {
            const std::int64_t heights = conv.height - y < portion ? conv.height - y : portion;
            if (!whole)
                for (std::int64_t unit = 0; unit < units; ++unit)
                    for (std::int64_t row = 0; row < heights; ++row)
                        expand(conv, expanded, first + unit, y + row,
                               conv.expanded + expanded.offset(unit, row * conv.pool), bias[unit]);
            const T* gradient =
                conv.expanded + expanded.offset(whole ? first : 0, whole ? y * conv.pool : 0);
            for (std::int64_t channel = 0; channel < in.channels; ++channel)
                for (std::int64_t line = 0; line < conv.kernel; ++line) {
                    const T* input = conv.input + channel * in.channel_stride() +
                                     (y * conv.pool * conv.stride + line) * in.row_stride();
                    T* partial = conv.partial + (channel * area + line * conv.kernel) * LANES<T>;
                    for (std::int64_t tap = 0; tap < conv.kernel; tap += widest) {
                        const std::int64_t taps = conv.kernel - tap < widest ? conv.kernel - tap : widest;
                        CHOICES<T>[taps - 1]->of[units - 1]({conv, expanded, gradient, input, columns, heights, tap,
                                                          partial + tap * LANES<T>, each * LANES<T>, y == 0});
                    }
                }
        }
        reduce(conv.partial, units * each, conv.weight_gradient + first * each);
        if (!whole && conv.bias_gradient)
            for (std::int64_t unit = 0; unit < units; ++unit) conv.bias_gradient[first + unit] = sum<T>(bias[unit]);
    }
}

template void conv_expand(const Conv<float>&);
template void conv_expand(const Conv<double>&);
template void conv_weight_gradient(const Conv<float>&);
template void conv_weight_gradient(const Conv<double>&);

}  // namespace fedlps::FEDLPS_ISA
